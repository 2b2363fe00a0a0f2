//go:build !unix

package dgram

import "errors"

// Without non-blocking calls every endpoint takes the portable path.
const supported = false

func familyOf(uintptr) Family { return None }

// Send is not available here.
func Send(Family, uintptr, []byte, *Addr) error { return errors.ErrUnsupported }

type vector struct{}

func (*Outbox) send(uintptr) (int, error) { return 0, errors.ErrUnsupported }

type inbox struct{}

func (*Batch) recv(uintptr) (int, bool, error) { return 0, false, errors.ErrUnsupported }

// Data is not available here.
func (*Batch) Data(int) ([]byte, bool) { return nil, false }

// From is not available here.
func (*Batch) From(int) IPPort { return IPPort{} }

// Path is not available here.
func (*Batch) Path(int) []byte { return nil }
