//go:build linux

package loadgen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"
)

// Raw system calls throughout: the runtime's bookkeeping around a blocking
// call would be paid at every one of them, and there is no other goroutine
// that could use the processor meanwhile. Sockets stay in blocking mode, so
// that connect is one call; each transfer says MSG_DONTWAIT instead.

var errAgain error = syscall.EAGAIN

// firstSource is 127.0.1.1: connections leave from several addresses, since one
// address has only some 28,000 ports and each stays taken for a minute after
// its connection was closed.
const (
	firstSource = 127<<24 | 1<<8 | 1
	sources     = 32
)

// bindAddressNoPort (IP_BIND_ADDRESS_NO_PORT) leaves the choice of the port to
// connect, which may reuse one that is taken towards another server.
const bindAddressNoPort = 24

func recv(fd int, p []byte) (int, error) {
	return transfer(syscall.SYS_RECVFROM, fd, p, syscall.MSG_DONTWAIT)
}

func send(fd int, p []byte) (int, error) {
	return transfer(syscall.SYS_SENDTO, fd, p, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

func transfer(call uintptr, fd int, p []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, errAgain // no boxing of errno on the hot path
		default:
			return 0, errno
		}
	}
}

// dial connects; source picks one of the client's addresses.
func dial(network, addr string, source int) (int, error) {
	if network == "unix" {
		return connect(syscall.AF_UNIX, syscall.SOCK_STREAM, &syscall.SockaddrUnix{Name: addr}, nil)
	}
	to, err := loopback(addr)
	if err != nil {
		return -1, err
	}
	if network == "udp" {
		return connect(syscall.AF_INET, syscall.SOCK_DGRAM, to, nil)
	}
	return connect(syscall.AF_INET, syscall.SOCK_STREAM, to, func(fd int) error { return prepareTCP(fd, source) })
}

// connect makes a socket, prepares it and connects it.
func connect(family, kind int, to syscall.Sockaddr, prepare func(fd int) error) (int, error) {
	fd, err := syscall.Socket(family, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	// A server that has stopped accepting must not hang the client.
	limit := syscall.NsecToTimeval(int64(stallLimit))
	err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit)
	if err == nil && prepare != nil {
		err = prepare(fd)
	}
	if err == nil {
		err = connectUninterrupted(fd, to)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

func connectUninterrupted(fd int, to syscall.Sockaddr) error {
	for {
		// After a signal, Linux waits on for the connection already begun.
		if err := syscall.Connect(fd, to); err != syscall.EINTR {
			return err
		}
	}
}

func prepareTCP(fd, source int) error {
	var from syscall.SockaddrInet4
	binary.BigEndian.PutUint32(from.Addr[:], firstSource+uint32(source%sources))
	return errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindAddressNoPort, 1),
		syscall.Bind(fd, &from),
	)
}

// loopback parses addr and refuses to load any other machine.
func loopback(addr string) (*syscall.SockaddrInet4, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	if !ap.Addr().Is4() || !ap.Addr().IsLoopback() {
		return nil, fmt.Errorf("%s is not an IPv4 loopback address", addr)
	}
	return &syscall.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}, nil
}

// epoll is a level-triggered set; an event carries the number of an endpoint.
type epoll struct {
	fd     int
	events [512]syscall.EpollEvent
	noNano bool // the kernel lacks epoll_pwait2
}

func newEpoll() (*epoll, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &epoll{fd: fd}, nil
}

func (e *epoll) add(fd, id int) error {
	return e.control(syscall.EPOLL_CTL_ADD, fd, id, syscall.EPOLLIN)
}

func (e *epoll) control(op, fd, id int, events uint32) error {
	ev := syscall.EpollEvent{Events: events, Fd: int32(id)}
	if err := syscall.EpollCtl(e.fd, op, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

const sysEpollPwait2 = 441 // the same on every architecture

// wait returns the ready events. A paced run needs waits far below the
// millisecond of epoll_wait; where the kernel lacks them the client spins.
func (e *epoll) wait(limit time.Duration) []syscall.EpollEvent {
	events := uintptr(unsafe.Pointer(&e.events))
	var n uintptr
	var errno syscall.Errno
	if !e.noNano {
		ts := syscall.NsecToTimespec(int64(limit))
		n, _, errno = syscall.RawSyscall6(sysEpollPwait2, uintptr(e.fd), events, uintptr(len(e.events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
		e.noNano = errno == syscall.ENOSYS
	}
	if e.noNano {
		n, _, errno = syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(e.fd), events, uintptr(len(e.events)), uintptr(limit.Milliseconds()), 0, 0)
	}
	if errno != 0 {
		return nil // EINTR: the caller looks at the clock and comes back
	}
	return e.events[:n]
}
