package strand

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reopen returns a file of its own for what f refers to, which the poller can
// watch, or nil. O_NONBLOCK belongs to the open file description, which other
// processes may share, our shell for example: so f's is left alone, and a new
// one made through /proc. A socket cannot be opened again; one that is not
// inherited as standard input or output is made non-blocking.
func reopen(f *os.File) *os.File {
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	var again *os.File
	control(f, func(fd int) {
		if info.Mode()&fs.ModeSocket != 0 {
			again = dupNonblock(fd, f.Name())
			return
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return
		}
		path := fmt.Sprintf("/proc/self/fd/%d", fd)
		again, _ = os.OpenFile(path, flags&unix.O_ACCMODE|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	})
	if again != nil && !canPoll(again) {
		again.Close()
		return nil
	}
	return again
}

func dupNonblock(fd int, name string) *os.File {
	if fd <= 2 {
		return nil
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil
	}
	if err := syscall.SetNonblock(dup, true); err != nil {
		syscall.Close(dup)
		return nil
	}
	return os.NewFile(uintptr(dup), name)
}

// control runs fn with f's descriptor, and does not make it blocking as Fd
// would.
func control(f *os.File, fn func(fd int)) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { fn(int(fd)) }) // on a closed file fn does not run
	}
}
