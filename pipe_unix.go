//go:build unix

package strand

import (
	"os"

	"golang.org/x/sys/unix"
)

// isNonblock reports whether reads and writes of f return at once.
func isNonblock(f *os.File) bool {
	var flags int
	err := os.ErrClosed
	control(f, func(fd int) { flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0) })
	return err == nil && flags&unix.O_NONBLOCK != 0
}

// withoutSIGPIPE returns a duplicate of standard output or error, because a
// write to the original that fails with EPIPE would kill the process: package
// os sees to that. It returns nil for every other file.
func withoutSIGPIPE(f *os.File) (dup *os.File) {
	control(f, func(fd int) {
		if fd != 1 && fd != 2 {
			return
		}
		if n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err == nil {
			dup = os.NewFile(uintptr(n), f.Name())
		}
	})
	return dup
}

// control runs fn with f's descriptor, and does not make it blocking as Fd
// would.
func control(f *os.File, fn func(fd int)) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { fn(int(fd)) }) // on a closed file fn does not run
	}
}
