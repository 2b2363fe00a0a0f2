//go:build unix && (!linux || race || !(amd64 || arm64))

package sockio

import "syscall"

// The calls of package syscall do the same on every Unix, and carry the race
// detector's happens-before edges for I/O, which raw system calls lack: two
// ends of a connection in one test binary would otherwise look like a race.
const supported = true

// Recv reads once into p, which must not be empty. Zero bytes without an
// error are the end of the stream; syscall.EAGAIN means that nothing is there.
// more is false if the next call could only return EAGAIN.
func Recv(_ Kind, fd uintptr, p []byte) (n int, more bool, err error) {
	n, err = ignoreEINTR(syscall.Read, fd, p)
	return n, true, err
}

// EnableInq is for Linux.
func EnableInq(uintptr) Kind { return Socket }

// Send writes once from p, which must not be empty, and returns how much the
// kernel took.
func Send(_ Kind, fd uintptr, p []byte) (int, error) {
	return ignoreEINTR(syscall.Write, fd, p)
}

// Sendv writes the pieces of bufs in order until the kernel takes no more,
// and returns how much it took.
func Sendv(k Kind, fd uintptr, bufs [][]byte) (int, error) {
	total := 0
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		n, err := Send(k, fd, b)
		if err != nil && total > 0 {
			return total, nil // the next call meets the error again
		}
		total += n
		if err != nil || n < len(b) {
			return total, err
		}
	}
	return total, nil
}
