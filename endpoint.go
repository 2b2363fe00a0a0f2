package strand

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/gostrand/strand/internal/dgram"
)

// DatagramOptions are the settings of CreateDatagramEndpoint and AttachPacket.
// What is for CreateDatagramEndpoint only is refused by AttachPacket.
type DatagramOptions struct {
	TransportOptions

	// Broadcast makes an endpoint with a remote address one that is not
	// connected: the remote address, which may be a broadcast address whose
	// answers come from elsewhere, is the default of SendTo and the only one
	// allowed, and datagrams from all senders are received. The permission to
	// send to broadcast addresses is there in any case, as package net sees to
	// it. CreateDatagramEndpoint only. asyncio: allow_broadcast.
	Broadcast bool

	// ReusePort lets several sockets have the same local address. Where the
	// system has no such thing it is an error matching errors.ErrUnsupported.
	// CreateDatagramEndpoint only. asyncio: reuse_port.
	ReusePort bool

	// KeepSocketFile leaves a Unix socket's file behind at the end.
	// CreateDatagramEndpoint only.
	KeepSocketFile bool

	// Control, if not nil, is called with the new socket before it is bound or
	// connected: to set socket options, as in net.ListenConfig. To join a
	// multicast group use ExtraInfo(ExtraSocket). CreateDatagramEndpoint only.
	Control func(network, address string, c syscall.RawConn) error

	// Resolver looks host names up. Default net.DefaultResolver.
	// CreateDatagramEndpoint only.
	Resolver *net.Resolver
}

// CreateDatagramEndpoint makes a socket for datagrams and makes it a transport
// for the protocol that factory returns. network is "udp", "udp4", "udp6" or
// "unixgram". local is the address to bind, an empty host meaning all
// interfaces; remote is the address to connect to: the endpoint then hears from
// that peer alone and may send only there. Either may be empty, with network
// "udp" not both. Where a host has several addresses they are tried in the
// resolver's order; if all fail, the error joins theirs. A file that another
// socket has left at a local Unix address is removed first, and the endpoint's
// own file at its end.
//
// It blocks until ConnectionMade has returned, and so must not be called from
// a callback that the new endpoint waits for. ctx counts until then: if it
// ends, the endpoint is aborted and the context's cause returned. If
// ConnectionMade panics, the *PanicError is returned. factory runs on the
// calling goroutine, once the socket is there.
// Callbacks may already be running when CreateDatagramEndpoint returns; touch
// the protocol through CallSoon or under a lock of your own. opts may be nil.
// asyncio: loop.create_datagram_endpoint.
func CreateDatagramEndpoint[P DatagramProtocol](ctx context.Context, network, local, remote string, factory func() P, opts *DatagramOptions) (DatagramTransport, P, error) {
	var none P
	o, cfg, err := datagramOptions(factory == nil, opts)
	if err != nil {
		return nil, none, err
	}
	s, err := openDatagram(ctx, network, local, remote, &o)
	if err != nil {
		return nil, none, err
	}
	started := false
	defer func() {
		if !started { // factory may have panicked
			s.close()
		}
	}()
	p, err := produce(factory)
	if err != nil {
		return nil, none, err
	}
	started = true // from here on the endpoint closes it, behind ConnectionMade
	t, err := s.start(ctx, p, cfg)
	return created(t, p, err)
}

// AttachPacket makes a socket for datagrams that exists a transport: bound or
// connected elsewhere, or any other net.PacketConn, which must let Close
// unblock ReadFrom and WriteTo. The transport then owns pc, and clears its
// deadlines. To end the endpoint, close the transport: a socket's own Close waits
// for a callback that is running, and never returns if that callback calls it. If
// pc is connected, SendTo checks addresses as in CreateDatagramEndpoint.
//
// It blocks as CreateDatagramEndpoint does. If it returns an error because of
// its arguments or because factory panics, pc stays open and the caller's.
// asyncio: create_datagram_endpoint(sock=...).
func AttachPacket[P DatagramProtocol](ctx context.Context, pc net.PacketConn, factory func() P, opts *DatagramOptions) (DatagramTransport, P, error) {
	var none P
	o, cfg, err := datagramOptions(factory == nil, opts)
	if err != nil {
		return nil, none, err
	}
	if o.Broadcast || o.ReusePort || o.KeepSocketFile || o.Control != nil || o.Resolver != nil {
		return nil, none, badOption("Broadcast, ReusePort, KeepSocketFile, Control and Resolver are for CreateDatagramEndpoint: this socket is there")
	}
	if err := checkPacketConn(pc); err != nil {
		return nil, none, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, none, err
	}
	if err := pc.SetDeadline(time.Time{}); errors.Is(err, net.ErrClosed) {
		return nil, none, err
	}
	p, err := produce(factory)
	if err != nil {
		return nil, none, err
	}
	s := &datagramSocket{PacketConn: pc, shared: true}
	t, err := s.start(ctx, p, cfg)
	return created(t, p, err)
}

func datagramOptions(noFactory bool, opts *DatagramOptions) (o DatagramOptions, cfg *config, err error) {
	if noFactory {
		return o, nil, errNilFactory
	}
	if opts != nil {
		o = *opts
	}
	cfg, err = o.resolve()
	return o, cfg, err
}

// checkPacketConn refuses what does not carry datagrams.
func checkPacketConn(pc net.PacketConn) error {
	if isNil(pc) {
		return errNilConn
	}
	switch c := pc.(type) {
	case *net.UDPConn:
		return checkSocket(c)
	case *net.IPConn:
		return checkSocket(c)
	case *net.UnixConn:
		if err := checkSocket(c); err != nil {
			return err
		}
		if n := c.LocalAddr().Network(); n != "unixgram" {
			return fmt.Errorf("strand: a %s socket is not one for datagrams", n)
		}
	}
	return nil
}

// checkSocket refuses the zero value of a type of package net, which has no
// address either.
func checkSocket(c syscall.Conn) error {
	_, err := c.SyscallConn()
	return err
}

// datagramSocket is what an endpoint is made of.
type datagramSocket struct {
	net.PacketConn
	only   net.Addr // the peer of a socket that is not connected, or nil
	file   socketFile
	shared bool // others may have it, too
}

func (s *datagramSocket) close() {
	s.Close()
	s.file.remove()
}

// start starts an endpoint that owns s, and waits for ConnectionMade.
func (s *datagramSocket) start(ctx context.Context, p DatagramProtocol, cfg *config) (DatagramTransport, error) {
	e := newEndpoint(s.PacketConn, p, cfg)
	e.file, e.shared = s.file, s.shared
	if s.only != nil {
		e.sendOnlyTo(s.only)
	}
	return e, e.start(ctx)
}

func openDatagram(ctx context.Context, network, local, remote string, o *DatagramOptions) (*datagramSocket, error) {
	switch network {
	case "udp", "udp4", "udp6":
		return openUDP(ctx, network, local, remote, o)
	case "unixgram":
		return openUnixgram(ctx, local, remote, o)
	}
	return nil, &net.OpError{Op: "listen", Net: network, Err: net.UnknownNetworkError(network)}
}

// control is for net.ListenConfig and net.Dialer.
func (o *DatagramOptions) control(network, address string, c syscall.RawConn) error {
	if o.ReusePort {
		if err := setReusePort(c); err != nil {
			return err
		}
	}
	if o.Control != nil {
		return o.Control(network, address, c)
	}
	return nil
}

func (o *DatagramOptions) listen(ctx context.Context, network, address string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: o.control}
	return lc.ListenPacket(ctx, network, address)
}

func (o *DatagramOptions) dial(ctx context.Context, network string, local net.Addr, remote string) (net.PacketConn, error) {
	d := net.Dialer{LocalAddr: local, Control: o.control}
	c, err := d.DialContext(ctx, network, remote)
	if err != nil {
		return nil, err
	}
	return c.(net.PacketConn), nil
}

func openUnixgram(ctx context.Context, local, remote string, o *DatagramOptions) (*datagramSocket, error) {
	if _, ok := dgram.Path(remote); !ok && o.Broadcast && remote != "" {
		return nil, wrongAddr(remote, notAPath)
	}
	if local != "" {
		if err := removeStaleSocket(local); err != nil {
			return nil, err
		}
	}
	s := new(datagramSocket)
	var err error
	switch {
	case remote == "" || o.Broadcast:
		s.PacketConn, err = o.listen(ctx, "unixgram", local)
	case local == "":
		s.PacketConn, err = o.dial(ctx, "unixgram", nil, remote)
	default:
		s.PacketConn, err = o.dial(ctx, "unixgram", &net.UnixAddr{Name: local, Net: "unixgram"}, remote)
		if err != nil {
			removeStaleSocket(local) // it was bound before the peer was not there
		}
	}
	if err != nil {
		return nil, err
	}
	if remote != "" && o.Broadcast {
		s.only = &net.UnixAddr{Name: remote, Net: "unixgram"}
	}
	if !o.KeepSocketFile {
		s.file = noteSocketFile(local)
	}
	return s, nil
}

func openUDP(ctx context.Context, network, local, remote string, o *DatagramOptions) (*datagramSocket, error) {
	if network == "udp" && local == "" && remote == "" {
		return nil, badOption("an endpoint needs a local or a remote address, or one of udp4 and udp6 as its network")
	}
	locals, err := o.localAddrs(ctx, network, local)
	if err != nil {
		return nil, err
	}
	if remote == "" {
		return firstThat(locals, func(local netip.AddrPort) (*datagramSocket, error) {
			pc, err := o.listen(ctx, network, hostPort(local))
			return &datagramSocket{PacketConn: pc}, err
		})
	}
	remotes, err := lookup(ctx, o.Resolver, network, remote)
	if err != nil {
		return nil, err
	}
	return firstThat(remotes, func(remote netip.AddrPort) (*datagramSocket, error) {
		return firstThat(familyOf(locals, remote), func(local netip.AddrPort) (*datagramSocket, error) {
			return o.openPair(ctx, local, remote)
		})
	})
}

// localAddrs resolves the local address. No host is an invalid address, with
// the port.
func (o *DatagramOptions) localAddrs(ctx context.Context, network, local string) ([]netip.AddrPort, error) {
	if local == "" {
		return []netip.AddrPort{{}}, nil
	}
	host, service, err := net.SplitHostPort(local)
	if err != nil {
		return nil, err
	}
	if host != "" {
		return lookup(ctx, o.Resolver, network, local)
	}
	port, err := cmp.Or(o.Resolver, net.DefaultResolver).LookupPort(ctx, network, service)
	return []netip.AddrPort{netip.AddrPortFrom(netip.Addr{}, uint16(port))}, err
}

// hostPort is an address for package net.
func hostPort(a netip.AddrPort) string {
	if !a.Addr().IsValid() {
		return fmt.Sprintf(":%d", a.Port())
	}
	return a.String()
}

// familyOf returns those local addresses that can reach remote.
func familyOf(locals []netip.AddrPort, remote netip.AddrPort) []netip.AddrPort {
	var same []netip.AddrPort
	for _, a := range locals {
		if !a.Addr().IsValid() || a.Addr().Is4() == remote.Addr().Is4() {
			same = append(same, a)
		}
	}
	return same
}

func (o *DatagramOptions) openPair(ctx context.Context, local, remote netip.AddrPort) (*datagramSocket, error) {
	network := "udp6"
	if remote.Addr().Is4() {
		network = "udp4"
	}
	if o.Broadcast {
		if _, ok := dgram.FromAddrPort(remote); !ok {
			return nil, wrongAddr(remote.String(), noSuchZone)
		}
		pc, err := o.listen(ctx, network, hostPort(local))
		return &datagramSocket{PacketConn: pc, only: net.UDPAddrFromAddrPort(remote)}, err
	}
	var from net.Addr
	if local != (netip.AddrPort{}) {
		from = net.UDPAddrFromAddrPort(local)
	}
	pc, err := o.dial(ctx, network, from, remote.String())
	return &datagramSocket{PacketConn: pc}, err
}

// firstThat tries the addresses in order and returns what the first that works
// has made.
func firstThat(addrs []netip.AddrPort, open func(netip.AddrPort) (*datagramSocket, error)) (*datagramSocket, error) {
	var errs []error
	for _, a := range addrs {
		s, err := open(a)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	if errs == nil {
		return nil, errNoPair
	}
	return nil, joined(errs)
}

var errNoPair = errors.New("strand: the local and the remote address have no family in common")
