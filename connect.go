package strand

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// defaultEyeballsDelay is RFC 8305's recommended Connection Attempt Delay, and
// the value that asyncio's documentation suggests.
const defaultEyeballsDelay = 250 * time.Millisecond

// ConnectOptions are the settings of CreateConnection.
type ConnectOptions struct {
	TransportOptions

	// LocalAddr is the address to connect from, "host:port" or a Unix socket's
	// path. Default: the system's choice. asyncio: local_addr.
	LocalAddr string

	// HappyEyeballsDelay is how long an attempt to connect to one address of a
	// host has before the next one is started beside it. Default 250 ms as RFC
	// 8305 recommends, negative: one after the other, in the resolver's order.
	// asyncio: happy_eyeballs_delay, where the default is one after the other.
	HappyEyeballsDelay time.Duration

	// Interleave is how many addresses of the first family come before the
	// families alternate. Default 1, or 0, the resolver's order, if
	// HappyEyeballsDelay is negative; negative: 0. asyncio: interleave.
	Interleave int

	// Resolver looks host names up. Default net.DefaultResolver.
	Resolver *net.Resolver

	// KeepAlive configures TCP keep-alive, which is off by default as in
	// asyncio. Its Enable turns it on.
	KeepAlive net.KeepAliveConfig

	// TLS, if not nil, makes the connection a TLS client: ConnectionMade comes
	// after the handshake. ServerName defaults to the host of the address.
	// asyncio: ssl.
	TLS *TLSOptions
}

// AttachOptions are the settings of Attach.
type AttachOptions struct {
	TransportOptions

	// TLS, if not nil, begins with a handshake, as the client or, with
	// ServerSide, the server. asyncio: ssl.
	TLS *TLSOptions
}

// CreateConnection connects to address and makes the connection a transport
// for the protocol that factory returns. network is "tcp", "tcp4", "tcp6" or
// "unix". All addresses of a host name are tried; if all fail, the error joins
// theirs in the order of the attempts.
//
// It blocks until ConnectionMade has returned, and so must not be called from
// a callback that the new connection waits for. ctx counts until then: if it
// ends, the connection is aborted and the context's cause returned. If
// ConnectionMade panics, the *PanicError is returned. factory runs on the calling
// goroutine, once the connection is there. Callbacks may already be running when
// CreateConnection returns; touch the protocol through CallSoon or under a lock
// of your own. opts may be nil. asyncio: loop.create_connection and
// create_unix_connection.
func CreateConnection[P Protocol](ctx context.Context, network, address string, factory func() P, opts *ConnectOptions) (Transport, P, error) {
	var none P
	if factory == nil {
		return nil, none, errNilFactory
	}
	var o ConnectOptions
	if opts != nil {
		o = *opts
	}
	cfg, err := o.resolve()
	if err != nil {
		return nil, none, err
	}
	set, err := o.TLS.resolveFor(network, address)
	if err != nil {
		return nil, none, err
	}
	conn, err := connect(ctx, network, address, &o)
	if err != nil {
		return nil, none, err
	}
	started := false
	defer func() {
		if !started { // the factory may have panicked
			conn.Close()
		}
	}()
	p, err := produce(factory)
	if err != nil {
		return nil, none, err
	}
	started = true
	t, err := start(ctx, newStream(conn, cfg), p, set)
	return created(t, p, err)
}

// Attach makes a connection that exists a transport: one that was accepted
// elsewhere, one end of net.Pipe, a hijacked HTTP connection, an SSH channel,
// a *tls.Conn. The transport then owns conn, and clears its deadlines. A conn
// that is not a *net.TCPConn or *net.UnixConn must let Close unblock Read and
// Write. To end the connection, close the transport: a socket's own Close waits
// for a callback that is running, and never returns if that callback calls it.
//
// It blocks as CreateConnection does. If it returns an error because of its
// arguments or because factory panics, conn stays open and the caller's.
// asyncio: create_connection(sock=...) and loop.connect_accepted_socket.
func Attach[P Protocol](ctx context.Context, conn net.Conn, factory func() P, opts *AttachOptions) (Transport, P, error) {
	var none P
	if factory == nil {
		return nil, none, errNilFactory
	}
	var o AttachOptions
	if opts != nil {
		o = *opts
	}
	cfg, err := o.resolve()
	if err != nil {
		return nil, none, err
	}
	if err := errors.Join(checkConn(conn), context.Cause(ctx)); err != nil {
		return nil, none, err
	}
	var set *tlsSettings
	if o.TLS != nil {
		if set, err = o.TLS.resolve(o.TLS.ServerSide, ""); err != nil {
			return nil, none, err
		}
	}
	p, err := produce(factory)
	if err != nil {
		return nil, none, err
	}
	if err := adopt(conn); err != nil {
		return nil, none, err
	}
	s := newStream(conn, cfg)
	s.shared = true
	t, err := start(ctx, s, p, set)
	return created(t, p, err)
}

// checkConn refuses what cannot be a stream.
func checkConn(conn net.Conn) error {
	if isNil(conn) {
		return errNilConn
	}
	switch c := conn.(type) {
	case *net.UDPConn, *net.IPConn:
		return fmt.Errorf("strand: a %T is not a stream connection", conn)
	case *net.UnixConn:
		if _, err := c.SyscallConn(); err != nil {
			return err // a zero UnixConn, which has no address either
		}
		if n := c.LocalAddr().Network(); n != "unix" {
			return fmt.Errorf("strand: a %s socket is not a stream connection", n)
		}
	}
	return nil
}

// adopt brings a conn of unknown history into the state of a new one.
func adopt(conn net.Conn) error {
	if err := setNoDelay(conn); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // a conn without deadlines has none to clear
}

// setNoDelay sends small writes of a TCP conn at once, as package net's conns do
// until somebody changes it.
func setNoDelay(conn net.Conn) error {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return tcp.SetNoDelay(true)
	}
	return nil
}

// produce calls a factory.
func produce[P any](factory func() P) (P, error) {
	p := factory()
	if isNil(p) {
		return p, errNilProtocol
	}
	return p, nil
}

// start starts a new stream and waits for ConnectionMade.
func start(ctx context.Context, s *stream, p Protocol, set *tlsSettings) (Transport, error) {
	s.proto.Store(bind(p))
	if set != nil {
		s.secure(set)
	}
	made := make(chan error, 1)
	s.made = made
	go s.run()
	select {
	case err := <-made:
		if err != nil {
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
		s.Abort()
		return nil, context.Cause(ctx)
	}
}

// created is what an entry point returns: all, or only the error.
func created[T, P any](t T, p P, err error) (T, P, error) {
	if err != nil {
		var noT T
		var noP P
		return noT, noP, err
	}
	return t, p, nil
}

// isNil finds nil interfaces and nil pointers (and their like) in interfaces.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Chan, reflect.Slice:
		return r.IsNil()
	}
	return false
}

// connect resolves address and connects to it.
func connect(ctx context.Context, network, address string, o *ConnectOptions) (net.Conn, error) {
	if address == "" {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.AddrError{Err: "missing address"}}
	}
	d := net.Dialer{KeepAlive: -1, KeepAliveConfig: o.KeepAlive, Resolver: o.Resolver}
	switch network {
	case "tcp", "tcp4", "tcp6":
		return connectTCP(ctx, &d, network, address, o)
	case "unix":
		if o.LocalAddr != "" {
			d.LocalAddr = &net.UnixAddr{Name: o.LocalAddr, Net: network}
		}
		return d.DialContext(ctx, network, address)
	}
	return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
}

func connectTCP(ctx context.Context, d *net.Dialer, network, address string, o *ConnectOptions) (net.Conn, error) {
	remotes, err := lookup(ctx, o.Resolver, network, address)
	if err != nil {
		return nil, err
	}
	var locals []netip.AddrPort
	if o.LocalAddr != "" {
		if locals, err = lookup(ctx, o.Resolver, network, o.LocalAddr); err != nil {
			return nil, err
		}
	}
	delay := orDefault(o.HappyEyeballsDelay, defaultEyeballsDelay)
	first := o.Interleave
	if first == 0 && delay > 0 {
		first = 1
	}
	return race(ctx, interleave(remotes, first), delay, func(ctx context.Context, remote netip.AddrPort) (net.Conn, error) {
		return dialFrom(ctx, d, network, locals, remote)
	})
}

// dialFrom connects to one address, from the first local address of its family
// that works (CN-06).
func dialFrom(ctx context.Context, d *net.Dialer, network string, locals []netip.AddrPort, remote netip.AddrPort) (net.Conn, error) {
	if locals == nil {
		return d.DialContext(ctx, network, remote.String())
	}
	var errs []error
	for _, local := range locals {
		if local.Addr().Is4() != remote.Addr().Is4() {
			continue
		}
		from := *d
		from.LocalAddr = net.TCPAddrFromAddrPort(local)
		conn, err := from.DialContext(ctx, network, remote.String())
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	if errs == nil {
		return nil, fmt.Errorf("strand: no local address of the family of %v", remote)
	}
	return nil, joined(errs)
}

// lookup resolves "host:port" to addresses. An empty host is the local one.
func lookup(ctx context.Context, r *net.Resolver, network, address string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if r == nil {
		r = net.DefaultResolver
	}
	port, err := r.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = "localhost"
	}
	ips, err := lookupHost(ctx, r, "ip"+network[len("tcp"):], host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.AddrPort
	for _, ip := range ips {
		addr := netip.AddrPortFrom(ip.Unmap(), uint16(port))
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	if addrs == nil {
		return nil, &net.DNSError{Err: "no suitable address", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

// lookupHost is LookupNetIP that keeps the zone of a literal address: without it
// a link-local address is good for nothing.
func lookupHost(ctx context.Context, r *net.Resolver, network, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() != "" && network != "ip4" {
		return []netip.Addr{ip}, nil
	}
	return r.LookupNetIP(ctx, network, host)
}

// interleave puts the first n addresses of the first family in front and then
// lets the families alternate (CN-05). n <= 0 keeps the order.
func interleave(addrs []netip.AddrPort, n int) []netip.AddrPort {
	if n <= 0 || len(addrs) == 0 {
		return addrs
	}
	var first, second []netip.AddrPort
	for _, a := range addrs {
		if a.Addr().Is4() == addrs[0].Addr().Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	n = min(n-1, len(first))
	mixed := append([]netip.AddrPort(nil), first[:n]...)
	for first = first[n:]; len(first) > 0 || len(second) > 0; {
		if len(first) > 0 {
			mixed, first = append(mixed, first[0]), first[1:]
		}
		if len(second) > 0 {
			mixed, second = append(mixed, second[0]), second[1:]
		}
	}
	return mixed
}

// attempt is the outcome of connecting to one address.
type attempt struct {
	index int
	conn  net.Conn
	err   error
}

// race connects to the addresses in order. The next attempt starts when the
// last one has failed, or after delay, if that is positive; the first success
// wins, the others are cancelled and waited for (CN-01, CN-04).
func race(ctx context.Context, addrs []netip.AddrPort, delay time.Duration, dial func(context.Context, netip.AddrPort) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan attempt, len(addrs))
	started, running := 0, 0
	var timer <-chan time.Time
	start := func() {
		if timer = nil; started == len(addrs) || ctx.Err() != nil {
			return
		}
		go func(i int) {
			conn, err := dial(ctx, addrs[i])
			done <- attempt{i, conn, err}
		}(started)
		started++
		running++
		if delay > 0 {
			timer = time.After(delay)
		}
	}
	errs := make([]error, len(addrs))
	for start(); running > 0; {
		select {
		case <-timer:
			start()
		case a := <-done:
			running--
			if a.err == nil {
				cancel()
				discard(done, running)
				return a.conn, nil
			}
			errs[a.index] = a.err
			if a.index == started-1 { // an older one says nothing about the newest
				start()
			}
		}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return nil, joined(errs)
}

// discard closes the connections that came too late.
func discard(done <-chan attempt, n int) {
	for ; n > 0; n-- {
		if a := <-done; a.conn != nil {
			a.conn.Close()
		}
	}
}

// joined is errors.Join that leaves a single error as it is.
func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
