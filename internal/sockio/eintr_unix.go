//go:build unix

package sockio

import "syscall"

// ignoreEINTR repeats a call that a signal interrupted (RD-07).
func ignoreEINTR(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
