package sockio

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// HasSendfile says whether Sendfile works.
const HasSendfile = true

// maxSendfile keeps one call from occupying a thread for long.
const maxSendfile = 4 << 20

// Sendfile sends up to n bytes of the file in from offset on to the socket out,
// and returns how many the kernel took; none without an error is the end of
// the file. An error that matches errors.ErrUnsupported means that this file,
// or this socket, has to be copied.
func Sendfile(out, in uintptr, offset, n int64) (int64, error) {
	for {
		k, err := unix.Sendfile(int(out), int(in), &offset, int(min(n, maxSendfile)))
		switch err {
		case nil:
			return int64(k), nil
		case syscall.EINTR:
		case syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP:
			return 0, errors.ErrUnsupported
		default:
			return 0, err
		}
	}
}
