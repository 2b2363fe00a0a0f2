package strand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
)

// listener is one bound address. Before StartServing of a delayed server it
// has no net.Listener yet.
type listener struct {
	net.Listener
	addr    net.Addr
	bound   *boundSocket
	file    socketFile // to be removed
	foreign bool       // a type of the caller's: what it accepts may be kept by others, too, and Close may wait
}

// isForeignListener reports whether ln is more than package net's.
func isForeignListener(ln net.Listener) bool {
	switch ln.(type) {
	case *net.TCPListener, *net.UnixListener:
		return false
	}
	return true
}

// listenAll binds every address, or none.
func listenAll(ctx context.Context, network string, addresses []string, o *ServerOptions) ([]*listener, error) {
	var ls []*listener
	var bound []string
	var unavailable []error
	fail := func(err error) ([]*listener, error) {
		for _, l := range ls {
			l.close(true)
		}
		return nil, err
	}
	for _, address := range addresses {
		exact, err := expand(ctx, network, address)
		if err != nil {
			return fail(err)
		}
		for _, a := range exact {
			if slices.Contains(bound, a) {
				continue // two names may have the same address (SV-15)
			}
			bound = append(bound, a)
			l, err := listen(ctx, network, a, o)
			switch {
			case err == nil:
				ls = append(ls, l)
			case errors.Is(err, syscall.EADDRNOTAVAIL):
				unavailable = append(unavailable, err) // one of many may be missing (SV-17)
			default:
				return fail(err)
			}
		}
	}
	if ls == nil {
		return nil, joined(unavailable)
	}
	return ls, nil
}

// expand resolves a host name to all of its addresses (SV-15); everything else
// it leaves as it is.
func expand(ctx context.Context, network, address string) ([]string, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	case "unix":
		if address == "" {
			break
		}
		return []string{address}, nil
	default:
		return nil, &net.OpError{Op: "listen", Net: network, Err: net.UnknownNetworkError(network)}
	}
	if address == "" {
		return nil, &net.OpError{Op: "listen", Net: network, Err: &net.AddrError{Err: "missing address"}}
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if host == "" {
		return []string{address}, nil
	}
	addrs, err := lookup(ctx, nil, network, address)
	if err != nil {
		return nil, err
	}
	var exact []string
	for _, a := range addrs {
		exact = append(exact, a.String())
	}
	return exact, nil
}

// listen binds one address and, unless that is delayed, listens.
func listen(ctx context.Context, network, address string, o *ServerOptions) (*listener, error) {
	if network == "unix" {
		if err := removeStaleSocket(address); err != nil {
			return nil, err
		}
	}
	network = family(network, address)
	if o.DelayStart {
		b, err := bindSocket(network, address, o.ReusePort)
		if err != nil {
			return nil, &net.OpError{Op: "listen", Net: network, Err: fmt.Errorf("%s: %w", address, err)}
		}
		l := &listener{bound: b, addr: b.addr}
		l.noteFile(network)
		return l, nil
	}
	lc := net.ListenConfig{KeepAlive: -1, KeepAliveConfig: o.KeepAlive}
	lc.SetMultipathTCP(false) // its sockets cost more, and lack TCP's options
	if o.ReusePort {
		lc.Control = func(_, _ string, c syscall.RawConn) error { return setReusePort(c) }
	}
	ln, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: ln, addr: ln.Addr()}
	l.noteFile(network)
	if err := l.setBacklog(o.Backlog); err != nil {
		l.close(true)
		return nil, err
	}
	return l, nil
}

// family narrows network to the family of a literal address, because package
// net has a wildcard address of one family accept connections of both: [::] is
// IPv6 only and 0.0.0.0 is IPv4 only (SV-15).
func family(network, address string) string {
	a, err := netip.ParseAddrPort(address)
	switch {
	case err != nil || network != "tcp":
		return network
	case a.Addr().Is4():
		return "tcp4"
	}
	return "tcp6"
}

// removeStaleSocket removes a socket's file, as asyncio does, even if another
// server listens there (US-01). Any other file makes listening fail.
func removeStaleSocket(path string) error {
	if isAbstract(path) {
		return nil
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return nil
	}
	return os.Remove(path)
}

// isAbstract reports whether path is one of Linux's abstract names, which have
// no file.
func isAbstract(path string) bool { return path[0] == '@' || path[0] == 0 }

// noteFile remembers a Unix socket's file.
func (l *listener) noteFile(network string) {
	if network != "unix" {
		return
	}
	if u, ok := l.Listener.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	l.file = noteSocketFile(l.addr.String())
}

// listen makes a delayed listener listen.
func (l *listener) listen(o *ServerOptions) error {
	if l.bound == nil {
		return nil
	}
	ln, err := l.bound.listen(o.Backlog)
	if err != nil {
		return err
	}
	switch u := ln.(type) {
	case *net.UnixListener:
		u.SetUnlinkOnClose(false)
	case *net.TCPListener:
		ln = keepAliveListener{u, o.KeepAlive}
	}
	l.Listener, l.bound = ln, nil
	return nil
}

// keepAliveListener is a delayed listener's: net.FileListener, which made it,
// has no net.ListenConfig, and turns keep-alive on.
type keepAliveListener struct {
	*net.TCPListener
	config net.KeepAliveConfig
}

func (l keepAliveListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	c.SetKeepAliveConfig(l.config) // where it fails reading will fail too
	return c, nil
}

// close looks at the file first: once the socket is closed, a new file in its
// place may have the same inode.
func (l *listener) close(removeFile bool) error {
	var err error
	if removeFile {
		err = l.file.remove()
	}
	var c io.Closer = l.Listener
	if l.bound != nil {
		c = l.bound
	}
	return errors.Join(err, c.Close())
}
