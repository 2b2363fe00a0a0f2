package strand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Waiting times of an accept loop after an error, as in net/http.
const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// ServerOptions are the settings of CreateServer and ServeListener.
type ServerOptions struct {
	TransportOptions

	// Addresses are further addresses to listen on, of the same network.
	// CreateServer only.
	Addresses []string

	// DelayStart binds the addresses and leaves listening to StartServing or
	// ServeForever; until then connections are refused. On systems other than
	// Unix it is not supported. CreateServer only. asyncio:
	// start_serving=False.
	DelayStart bool

	// Backlog is the length of the kernel's queue of connections that are not
	// accepted yet. Default: the system's maximum. Linux only. CreateServer
	// only. asyncio: backlog, 100 there.
	Backlog int

	// ReusePort lets several sockets listen on the same address. It is an
	// error where the system has no such thing. CreateServer only. asyncio:
	// reuse_port.
	ReusePort bool

	// KeepAlive configures TCP keep-alive of accepted connections, which is
	// off by default as in asyncio. CreateServer only. asyncio: keep_alive.
	KeepAlive net.KeepAliveConfig

	// KeepSocketFile leaves a Unix socket's file behind when the server is
	// closed. CreateServer only. asyncio: cleanup_socket=False.
	KeepSocketFile bool

	// MaxConnections is the number of connections at which accepting stops
	// until one of them is gone. Each listener may hold one more, accepted and
	// waiting. Zero or negative: no limit.
	MaxConnections int

	// TLS, if not nil, makes the server a TLS server: ConnectionMade comes
	// after the handshake, and connections whose handshake fails are closed
	// without a callback.
	TLS *TLSOptions

	// ShutdownTimeout is what ServeForever grants the connections when its
	// context ends. Default 30 s, negative: for ever.
	ShutdownTimeout time.Duration
}

// Server accepts connections and makes each of them a transport with a
// protocol of its own. All methods may be called from any goroutine. asyncio:
// Server.
type Server struct {
	opts    ServerOptions
	cfg     *config
	network string
	factory func() (Protocol, error)
	tls     *tlsSettings // nil: no TLS

	failedHandshakes atomic.Uint64

	mu        sync.Mutex
	state     serverState
	forever   bool          // ServeForever is running
	listeners []*listener   // bound or listening
	accepting int           // accept loops running
	first     *stream       // the connections
	count     int           // connections, and slots taken for them
	slot      chan struct{} // closed when a slot becomes free; nil if nobody waits
	closed    chan struct{} // closed by Close
	finished  chan struct{} // closed when the server is closed and its last connection gone
}

// serverState is how far a server has come; it only moves down this list.
type serverState uint8

const (
	serverBound    serverState = iota // the addresses are taken
	serverServing                     // accept loops run
	serverClosed                      // nothing is accepted any more
	serverFinished                    // and the last connection is gone
)

// CreateServer listens on address and serves every connection with a protocol
// of its own from factory. network is "tcp", "tcp4", "tcp6" or "unix". All
// addresses of a host name are bound; an empty host means all interfaces, and a
// literal address its own family only: [::] does not accept IPv4.
//
// It does not block, except for resolving a host name, to which ctx applies;
// ctx has no meaning for the server afterwards. factory is called on each
// connection's own goroutine; if it panics or returns nil that is logged and
// the connection closed. Callbacks may already be running when CreateServer
// returns. opts may be nil. asyncio: loop.create_server and
// create_unix_server.
func CreateServer[P Protocol](ctx context.Context, network, address string, factory func() P, opts *ServerOptions) (*Server, error) {
	s, err := newServer(factory, opts)
	if err != nil {
		return nil, err
	}
	s.network = network
	if s.listeners, err = listenAll(ctx, network, append([]string{address}, s.opts.Addresses...), &s.opts); err != nil {
		return nil, err
	}
	if s.opts.DelayStart {
		return s, nil
	}
	return s, s.StartServing()
}

// ServeListener serves every connection that ln accepts. It does not block.
// ln is the server's from now on and closed with it. If ServeListener returns
// an error, ln stays open and the caller's. Everything else is as in
// CreateServer. asyncio: create_server(sock=...).
func ServeListener[P Protocol](ln net.Listener, factory func() P, opts *ServerOptions) (*Server, error) {
	if isNil(ln) {
		return nil, errors.New("strand: the listener is nil")
	}
	s, err := newServer(factory, opts)
	if err != nil {
		return nil, err
	}
	if s.opts.DelayStart || s.opts.Addresses != nil || s.opts.Backlog != 0 || s.opts.ReusePort {
		return nil, badOption("DelayStart, Addresses, Backlog and ReusePort are for CreateServer: this listener is listening")
	}
	s.network = ln.Addr().Network()
	s.listeners = []*listener{{Listener: ln, addr: ln.Addr()}}
	return s, s.StartServing()
}

func newServer[P Protocol](factory func() P, opts *ServerOptions) (*Server, error) {
	if factory == nil {
		return nil, errNilFactory
	}
	s := &Server{closed: make(chan struct{}), finished: make(chan struct{})}
	if opts != nil {
		s.opts = *opts
	}
	var err error
	if s.cfg, err = s.opts.resolve(); err != nil {
		return nil, err
	}
	if s.opts.TLS != nil {
		if len(s.opts.TLS.Prefix) > 0 {
			return nil, errPrefix
		}
		if s.tls, err = s.opts.TLS.resolve(true, ""); err != nil {
			return nil, err
		}
	}
	s.factory = func() (Protocol, error) {
		if p := factory(); !isNil(p) {
			return p, nil
		}
		return nil, errNilProtocol
	}
	return s, nil
}

// Addrs returns the addresses that the server listens on, none after Close.
// asyncio: sockets.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []net.Addr
	for _, l := range s.listeners {
		addrs = append(addrs, l.addr)
	}
	return addrs
}

// StartServing begins to accept connections, if it was delayed. A second call
// does nothing; after Close it returns an error matching net.ErrClosed. It
// does not block. asyncio: start_serving.
func (s *Server) StartServing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case serverServing:
		return nil
	case serverClosed, serverFinished:
		return errServerClosed
	}
	for _, l := range s.listeners {
		if err := l.listen(&s.opts); err != nil {
			return err
		}
	}
	s.state = serverServing
	s.accepting = len(s.listeners)
	for _, l := range s.listeners {
		go s.acceptLoop(l)
	}
	return nil
}

// IsServing reports whether connections are being accepted. asyncio:
// is_serving.
func (s *Server) IsServing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == serverServing
}

// Close stops listening; existing connections go on, but for handshakes that
// are not finished, which are aborted. It does not wait. A second call does
// nothing. The result is always nil. asyncio: close.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state >= serverClosed {
		return nil
	}
	s.state = serverClosed
	close(s.closed)
	for _, l := range s.listeners {
		if err := l.close(!s.opts.KeepSocketFile); err != nil {
			s.cfg.log.Debug("strand: closing a listener failed", "error", err, "address", l.addr)
		}
	}
	s.listeners = nil
	for c := s.first; c != nil; c = c.next {
		c.abortUnfinished()
	}
	s.finishLocked()
	return nil
}

// finishLocked notes that the server is closed and nothing of it is left.
func (s *Server) finishLocked() {
	if s.state == serverClosed && s.accepting == 0 && s.count == 0 {
		s.state = serverFinished
		close(s.finished)
	}
}

// ServeForever starts serving if that was delayed and blocks until ctx ends or
// the server is closed. If ctx ends, it shuts the server down, for which the
// connections have ShutdownTimeout, and returns the context's cause. After
// Close it returns an error matching net.ErrClosed, without waiting for the
// connections. A second call at the same time is an error. asyncio:
// serve_forever, which on cancellation waits for ever and closes no
// connection.
func (s *Server) ServeForever(ctx context.Context) error {
	if err := s.StartServing(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.forever {
		s.mu.Unlock()
		return errors.New("strand: ServeForever is already running")
	}
	s.forever = true
	s.mu.Unlock()
	select {
	case <-s.closed:
		return errServerClosed
	case <-ctx.Done():
	}
	grace, cancel := s.grace()
	defer cancel()
	return errors.Join(context.Cause(ctx), s.Shutdown(grace))
}

// grace is the context of a shutdown that nobody gave one for.
func (s *Server) grace() (context.Context, context.CancelFunc) {
	if d := orDefault(s.opts.ShutdownTimeout, defaultShutdownTimeout); d > 0 {
		return context.WithTimeout(context.Background(), d)
	}
	return context.WithCancel(context.Background())
}

// Wait blocks until the server is closed and its last connection's
// ConnectionLost has returned, or until ctx ends, whose cause it returns then.
// Called from a callback of one of the server's connections it waits for
// itself. asyncio: wait_closed.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-s.finished: // wins over a context that has ended as well
		return nil
	default:
	}
	if s.cfg.debug {
		s.warnInCallback()
	}
	select {
	case <-s.finished:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// warnInCallback logs a wait that waits for itself, which in a program that
// hangs is hard to find.
func (s *Server) warnInCallback() {
	stack := debug.Stack()
	if bytes.Contains(stack, []byte("strand.(*dispatcher).protect(")) {
		s.cfg.log.Warn("strand: a callback waits for the end of its own server", "stack", string(stack))
	}
}

// Shutdown closes the server and then its connections: those whose protocol is
// a ShutdownRequester are asked, the others are closed gracefully. It blocks
// until all are gone. When ctx ends before, what is left is aborted, and the
// context's cause is returned without waiting for blocked callbacks. Called
// from a callback of one of the server's connections it waits for itself.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Close()
	for _, c := range s.streams() {
		c.requestShutdown()
	}
	err := s.Wait(ctx)
	if err != nil {
		s.AbortClients()
	}
	return err
}

// CloseClients calls Close on every connection. The server goes on. It does
// not wait. asyncio: close_clients.
func (s *Server) CloseClients() {
	for _, c := range s.streams() {
		c.Close()
	}
}

// AbortClients calls Abort on every connection. The server goes on. It does
// not wait. asyncio: abort_clients.
func (s *Server) AbortClients() {
	for _, c := range s.streams() {
		c.Abort()
	}
}

// ConnectionInfo describes one open connection.
type ConnectionInfo struct {
	LocalAddr, RemoteAddr net.Addr
	State                 string        // "opening", "open", "closing", "ended" or "lost"
	Age                   time.Duration // since it was accepted
	Buffered              int           // bytes of output not taken by the kernel
	Created               string        // in Debug, the stack of the goroutine that created it
}

// Connections lists what is open: every connection from its acceptance until
// its ConnectionLost has returned.
func (s *Server) Connections() []ConnectionInfo {
	var infos []ConnectionInfo
	for _, c := range s.streams() {
		infos = append(infos, c.info())
	}
	return infos
}

// FailedHandshakes returns how many connections were closed because their TLS
// handshake failed. Why is logged at debug level.
func (s *Server) FailedHandshakes() uint64 { return s.failedHandshakes.Load() }

// ServeConn makes conn, which was accepted or hijacked elsewhere, a connection
// of this server: its factory provides the protocol, and Shutdown and Wait
// include it. It does not block. The result is an error matching
// net.ErrClosed after Close, or ErrTooManyConnections; conn stays the caller's
// then.
func (s *Server) ServeConn(conn net.Conn) error {
	if err := checkConn(conn); err != nil {
		return err
	}
	s.mu.Lock()
	if s.state >= serverClosed {
		s.mu.Unlock()
		return errServerClosed
	}
	if s.fullLocked() {
		s.mu.Unlock()
		return ErrTooManyConnections
	}
	s.count++
	s.mu.Unlock()
	if err := adopt(conn); err != nil {
		s.release()
		return err
	}
	if !s.serve(conn) {
		return errServerClosed
	}
	return nil
}

// The accept loops.

func (s *Server) acceptLoop(l *listener) {
	defer s.acceptLoopGone()
	var delay time.Duration
	for {
		conn, err := l.Accept()
		if err == nil {
			delay = 0
			if !s.acquire() || !s.serve(conn) {
				conn.Close()
				return
			}
			continue
		}
		if s.isClosed() || errors.Is(err, net.ErrClosed) {
			return
		}
		if errors.Is(err, syscall.ECONNABORTED) {
			continue // the client has thought better of it (SV-10)
		}
		delay = min(max(2*delay, minAcceptDelay), maxAcceptDelay)
		s.cfg.log.Error("strand: accept failed", "error", err, "address", l.addr, "retry in", delay)
		if !s.sleep(delay) {
			return
		}
	}
}

func (s *Server) acceptLoopGone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepting--
	s.finishLocked()
}

// sleep waits for d and reports false if the server is closed before.
func (s *Server) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closed:
		return false
	}
}

func (s *Server) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// acquire takes a connection's slot, waiting for a free one, and reports false
// if the server is closed before.
func (s *Server) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.state < serverClosed && s.fullLocked() {
		if s.slot == nil {
			s.slot = make(chan struct{})
		}
		slot := s.slot
		s.mu.Unlock()
		select {
		case <-slot:
		case <-s.closed:
		}
		s.mu.Lock()
	}
	if s.state >= serverClosed {
		return false
	}
	s.count++
	return true
}

func (s *Server) fullLocked() bool {
	return s.opts.MaxConnections > 0 && s.count >= s.opts.MaxConnections
}

// release gives a slot back.
func (s *Server) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked()
}

func (s *Server) releaseLocked() {
	s.count--
	if s.slot != nil {
		close(s.slot)
		s.slot = nil
	}
	s.finishLocked()
}

// serve starts a connection, whose slot is taken. It gives the slot back and
// returns false if the server was closed meanwhile: Shutdown, which has looked
// at the list already, would wait for the connection without asking it to end.
func (s *Server) serve(conn net.Conn) bool {
	c := newStream(conn, s.cfg)
	c.server = s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state >= serverClosed {
		s.releaseLocked()
		return false
	}
	c.next = s.first
	if s.first != nil {
		s.first.prev = c
	}
	s.first = c
	if s.tls != nil {
		c.secure(s.tls)
	}
	go c.run()
	return true
}

// detach is the end of a connection.
func (s *Server) detach(c *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.next != nil {
		c.next.prev = c.prev
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.first = c.next
	}
	c.next, c.prev = nil, nil
	s.releaseLocked()
}

// streams returns the connections there are, newest first.
func (s *Server) streams() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*stream
	for c := s.first; c != nil; c = c.next {
		list = append(list, c)
	}
	return list
}

// What a stream does for its server.

// produce has the factory make the protocol of an accepted connection, on the
// connection's own goroutine.
func (s *stream) produce() bool {
	p, err := s.server.factory()
	if err != nil {
		s.rejected(err)
		return false
	}
	s.proto.Store(bind(p))
	return true
}

func (s *stream) rejected(err error) {
	s.cfg.log.Error("strand: no protocol for a connection", "error", err, "transport", s)
	s.fail(err)
}

// abortUnfinished aborts a connection whose ConnectionMade is still to come
// because of a handshake.
func (s *stream) abortUnfinished() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.phase == opening && s.upgradingLocked() && s.life.abort() {
		s.endedLocked()
	}
}

func (s *stream) requestShutdown() {
	s.mu.Lock()
	made := s.life.made
	s.mu.Unlock()
	if made { // before, there may be no protocol, and ConnectionMade comes first
		if p, ok := s.Protocol().(ShutdownRequester); ok && s.CallSoon(p.ShutdownRequested) {
			return
		}
	}
	s.Close()
}

func (s *stream) info() ConnectionInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ConnectionInfo{
		LocalAddr:  s.local,
		RemoteAddr: s.remote,
		State:      s.life.phase.String(),
		Age:        time.Since(time.Unix(0, s.created)),
		Buffered:   s.flow.size,
		Created:    string(s.origin),
	}
}

// listener is one bound address. Before StartServing of a delayed server it
// has no net.Listener yet.
type listener struct {
	net.Listener
	addr  net.Addr
	bound *boundSocket
	file  socketFile // to be removed
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

// LogValue is what a log record shows of a server.
func (s *Server) LogValue() slog.Value { return slog.AnyValue(s.Addrs()) }
