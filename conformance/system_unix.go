//go:build unix

package conformance

import (
	"os"
	"syscall"
)

const sigUSR1 = syscall.SIGUSR1

// getsockopt returns an integer option, 0 if it cannot be read.
func getsockopt(fd uintptr, level, option int) int {
	n, err := syscall.GetsockoptInt(int(fd), level, option)
	if err != nil {
		return 0
	}
	return n
}

func setsockopt(fd uintptr, level, option, value int) error {
	return syscall.SetsockoptInt(int(fd), level, option, value)
}

// openFIFO makes a FIFO and opens both ends; the one to read from must be
// first and must not wait.
func openFIFO(path string) (read, write *os.File, err error) {
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, nil, err
	}
	read, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	write, err = os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	return read, write, err
}

// socketPair returns the two ends of a socket as files.
func socketPair() (a, b *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		if err := syscall.SetNonblock(fd, true); err != nil {
			return nil, nil, err
		}
	}
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b"), nil
}
