//go:build unix

package strand

import (
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gostrand/strand/internal/dgram"
)

// boundSocket is a socket that is bound and does not listen yet, which package
// net cannot make.
type boundSocket struct {
	*os.File
	addr net.Addr
}

// bindSocket binds one address, given as IP and port or as a path.
func bindSocket(network, address string, reusePort bool) (*boundSocket, error) {
	domain, sa, err := sockaddrOf(network, address)
	if err != nil {
		return nil, err
	}
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(domain, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	b := &boundSocket{File: os.NewFile(uintptr(fd), address)}
	if err := b.bind(fd, network, domain, sa, reusePort); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *boundSocket) bind(fd int, network string, domain int, sa unix.Sockaddr, reusePort bool) error {
	if domain != unix.AF_UNIX {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if domain == unix.AF_INET6 {
		only := 0
		if network == "tcp6" {
			only = 1
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if reusePort {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		b.addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)))
	case *unix.SockaddrInet6:
		b.addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)))
	case *unix.SockaddrUnix:
		b.addr = &net.UnixAddr{Name: a.Name, Net: "unix"}
	}
	return nil
}

func sockaddrOf(network, address string) (int, unix.Sockaddr, error) {
	if network == "unix" {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: address}, nil
	}
	tcp, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return 0, nil, err
	}
	if ip := tcp.IP.To4(); ip != nil || network == "tcp4" {
		sa := &unix.SockaddrInet4{Port: tcp.Port}
		copy(sa.Addr[:], ip)
		return unix.AF_INET, sa, nil
	}
	zoned, ok := dgram.FromAddrPort(tcp.AddrPort())
	if !ok {
		return 0, nil, wrongAddr(address, noSuchZone)
	}
	sa := &unix.SockaddrInet6{Port: tcp.Port, ZoneId: zoned.Scope}
	copy(sa.Addr[:], tcp.IP.To16())
	return unix.AF_INET6, sa, nil
}

// listen makes a net.Listener of the socket.
func (b *boundSocket) listen(backlog int) (net.Listener, error) {
	if backlog <= 0 {
		backlog = unix.SOMAXCONN
	}
	if err := unix.Listen(int(b.Fd()), backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	defer b.Close() // FileListener has a descriptor of its own
	return net.FileListener(b.File)
}

// setReusePort is for net.ListenConfig.Control.
func setReusePort(c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// setBacklog shortens the queue of a socket that listens: Linux lets listen be
// called again.
func (l *listener) setBacklog(backlog int) error {
	sc, ok := l.Listener.(syscall.Conn)
	if backlog <= 0 || !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = os.NewSyscallError("listen", unix.Listen(int(fd), backlog)) })
	if cerr != nil {
		return cerr
	}
	return err
}
