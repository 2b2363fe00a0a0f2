//go:build unix && (!linux || race || !(amd64 || arm64))

package dgram

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// The calls of package unix do the same on every Unix, a datagram at a time; the
// descriptors of the runtime's poller do not block. In builds for the race
// detector they stand in for the batched ones, so that the tests go both ways.
const supported = true

func familyOf(fd uintptr) Family {
	sa, err := unix.Getsockname(int(fd))
	if err != nil {
		return None
	}
	switch sa.(type) {
	case *unix.SockaddrInet4:
		return Inet4
	case *unix.SockaddrInet6:
		return Inet6
	case *unix.SockaddrUnix:
		return Unix
	}
	return None
}

// sockaddr converts an address that fits f. It is package syscall's, because
// package unix refuses the longest abstract names.
func (f Family) sockaddr(a *Addr) syscall.Sockaddr {
	switch f {
	case Inet4:
		return &syscall.SockaddrInet4{Port: int(a.Port), Addr: [4]byte(a.IP[12:])}
	case Inet6:
		return &syscall.SockaddrInet6{Port: int(a.Port), Addr: a.inet6(), ZoneId: a.Scope}
	}
	return &syscall.SockaddrUnix{Name: a.Path}
}

// Send sends one datagram, to the connected peer if to is nil.
func Send(f Family, fd uintptr, p []byte, to *Addr) error {
	var sa syscall.Sockaddr
	if to != nil {
		sa = f.sockaddr(to)
	}
	for {
		_, err := syscall.SendmsgN(int(fd), p, nil, sa, 0)
		if err != syscall.EINTR {
			return err
		}
	}
}

// vector is not needed here.
type vector struct{}

func (o *Outbox) send(fd uintptr) (sent int, err error) {
	for i := o.first; i < o.count; i++ {
		if err := Send(o.family, fd, o.packet(i), &o.to[i]); err != nil {
			return i - o.first, err
		}
	}
	return o.count - o.first, nil
}

// inbox is what the calls tell of the datagrams of a Batch.
type inbox [Max]struct {
	len  int
	cut  bool
	from unix.Sockaddr
}

func (b *Batch) recv(fd uintptr) (n int, more bool, err error) {
	for n < b.limit() {
		size, _, flags, from, err := unix.Recvmsg(int(fd), b.buffer(n), nil, 0)
		if err == unix.EINTR {
			continue
		}
		switch {
		case err == unix.EAGAIN && n > 0:
			return n, false, nil
		case err != nil:
			return n, true, err // the kernel tells it once
		}
		m := &b.in[n]
		m.len, m.cut, m.from = size, flags&unix.MSG_TRUNC != 0, from
		n++
	}
	return n, true, nil
}

// Data returns datagram i, and whether it was cut off to fit.
func (b *Batch) Data(i int) (p []byte, cut bool) { return b.buffer(i)[:b.in[i].len], b.in[i].cut }

// From returns the sender of datagram i of a UDP socket.
func (b *Batch) From(i int) (a IPPort) {
	switch sa := b.in[i].from.(type) {
	case *unix.SockaddrInet4:
		a.Port, a.IP = uint16(sa.Port), mapped(sa.Addr)
	case *unix.SockaddrInet6:
		a.Port, a.IP, a.Scope = uint16(sa.Port), sa.Addr, sa.ZoneId
	}
	return a
}

// Path returns the name of the sender of datagram i of a Unix socket, empty if
// it has none. It is valid until the next Recv.
func (b *Batch) Path(i int) []byte {
	if sa, ok := b.in[i].from.(*unix.SockaddrUnix); ok {
		return []byte(sa.Name)
	}
	return nil
}
