//go:build !linux

package sockio

import "errors"

// HasSendfile says whether Sendfile works.
const HasSendfile = false

// Sendfile is not available here.
func Sendfile(out, in uintptr, offset, n int64) (int64, error) { return 0, errors.ErrUnsupported }
