package strand

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// reopen returns a file of its own for what f refers to, which the poller can
// watch, or nil. O_NONBLOCK belongs to the open file description, which other
// processes may share, our shell for example: so f's is left alone, and a new
// one made through /proc. Only a pipe or a terminal is the same thing when it
// is opened again. Everything else is made non-blocking, as net.FileConn does
// it, unless it was inherited as standard input, output or error.
func reopen(f *os.File) (again *os.File) {
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	control(f, func(fd int) {
		switch {
		case info.Mode()&fs.ModeNamedPipe != 0 || isTerminal(fd):
			again = openAgain(fd)
		case fd > 2:
			again = dupNonblock(fd, f.Name())
		}
	})
	if again != nil && !canPoll(again) {
		again.Close()
		return nil
	}
	return again
}

// isTerminal reports whether fd is a terminal. The master side of one is not:
// opening that again makes a new terminal.
func isTerminal(fd int) bool {
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return false
	}
	_, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	return err != nil
}

func openAgain(fd int) *os.File {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil
	}
	f, _ := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), flags&unix.O_ACCMODE|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	return f
}

func dupNonblock(fd int, name string) *os.File {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil
	}
	if err := unix.SetNonblock(dup, true); err != nil {
		unix.Close(dup)
		return nil
	}
	return os.NewFile(uintptr(dup), name)
}
