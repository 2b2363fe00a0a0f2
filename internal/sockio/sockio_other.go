//go:build !unix

package sockio

import "errors"

// Without non-blocking calls every connection takes the portable path.
const supported = false

// Recv is not available here.
func Recv(Kind, uintptr, []byte) (int, bool, error) { return 0, false, errors.ErrUnsupported }

// EnableInq is not available here.
func EnableInq(uintptr) Kind { return None }

// Send is not available here.
func Send(Kind, uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// Sendv is not available here.
func Sendv(Kind, uintptr, [][]byte) (int, error) { return 0, errors.ErrUnsupported }

// PeerGone is not available here.
func PeerGone(uintptr) bool { return false }
