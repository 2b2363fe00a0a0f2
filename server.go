package strand

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ServerOptions are the settings of CreateServer and ServeListener. What is for
// CreateServer only is refused by ServeListener.
type ServerOptions struct {
	TransportOptions

	// Addresses are further addresses to listen on, of the same network.
	// CreateServer only. asyncio: several hosts.
	Addresses []string

	// DelayStart binds the addresses and leaves listening to StartServing or
	// ServeForever; until then connections are refused. On systems other than
	// Unix it is an error matching errors.ErrUnsupported. CreateServer only.
	// asyncio: start_serving=False.
	DelayStart bool

	// Backlog is the length of the kernel's queue of connections that are not
	// accepted yet. Default, and if negative: the system's maximum. Linux only.
	// CreateServer only. asyncio: backlog, 100 there.
	Backlog int

	// ReusePort lets several sockets listen on the same address. Where the
	// system has no such thing it is an error matching errors.ErrUnsupported.
	// CreateServer only. asyncio: reuse_port.
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
	// without a callback. asyncio: ssl.
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
	accepting int           // accept loops, and one for who is closing their listeners
	first     *stream       // the connections
	count     int           // connections, and slots taken for them
	slot      chan struct{} // closed when a slot becomes free; nil if nobody waits
	lost      error         // why there is no listener left, if not because of Close
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
// literal address its own family only: [::] does not accept IPv4. A socket's file
// that is found at a Unix path is removed first, even if another server listens
// there, and the server's own when it is closed.
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
// ln is the server's from now on and closed with it. If somebody else closes ln,
// so that its Accept returns an error matching net.ErrClosed, that is logged and
// closes the server as Close does; ServeForever returns the error. All other
// errors of Accept are logged, and it is called again after a while. If
// ServeListener returns an error, ln stays open and the caller's. Everything
// else is as in CreateServer. asyncio: create_server(sock=...).
func ServeListener[P Protocol](ln net.Listener, factory func() P, opts *ServerOptions) (*Server, error) {
	if isNil(ln) {
		return nil, errors.New("strand: the listener is nil")
	}
	s, err := newServer(factory, opts)
	if err != nil {
		return nil, err
	}
	if s.opts.isForCreateServer() {
		return nil, badOption("DelayStart, Addresses, Backlog, ReusePort, KeepAlive and KeepSocketFile are for CreateServer: this listener is listening")
	}
	s.network = ln.Addr().Network()
	s.listeners = []*listener{{Listener: ln, addr: ln.Addr(), foreign: isForeignListener(ln)}}
	return s, s.StartServing()
}

// isForCreateServer reports whether something is set that ServeListener could not
// do.
func (o *ServerOptions) isForCreateServer() bool {
	return o.DelayStart || o.Addresses != nil || o.Backlog != 0 || o.ReusePort ||
		o.KeepAlive != net.KeepAliveConfig{} || o.KeepSocketFile
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
		return s.closedErrorLocked()
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

// closedErrorLocked is what calls that come after the end of serving return.
func (s *Server) closedErrorLocked() error {
	if s.lost != nil {
		return s.lost
	}
	return errServerClosed
}

func (s *Server) closedError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closedErrorLocked()
}

// IsServing reports whether connections are being accepted: from StartServing
// until Close, or until somebody else has closed every listener. asyncio:
// is_serving.
func (s *Server) IsServing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == serverServing
}

// Close stops listening; existing connections go on, but for handshakes that
// are not finished, which are aborted. It waits for nothing but the Close of a
// listener given to ServeListener. A second call does nothing. The result is
// always nil. asyncio: close.
func (s *Server) Close() error {
	if listeners, first := s.stop(); first {
		s.closeListeners(listeners)
	}
	return nil
}

// stop is Close without its last step, the listeners: to close one of the
// caller's may take its time, and holds up nobody else because it is done
// without the lock. Whoever is the first to stop the server has to do it.
func (s *Server) stop() (listeners []*listener, first bool) {
	s.mu.Lock()
	if s.state >= serverClosed {
		s.mu.Unlock()
		return nil, false
	}
	s.state = serverClosed
	close(s.closed)
	listeners, s.listeners = s.listeners, nil
	s.accepting++
	s.mu.Unlock()
	for _, c := range s.streams() { // there will be no more
		c.abortUnfinished()
	}
	return listeners, true
}

// closeListeners is the last step. Wait counts it as accepting.
func (s *Server) closeListeners(listeners []*listener) {
	defer s.acceptLoopGone()
	for _, l := range listeners {
		s.closeListener(l)
	}
}

func (s *Server) closeListener(l *listener) {
	if err := l.close(!s.opts.KeepSocketFile); err != nil {
		s.cfg.log.Debug("strand: closing a listener failed", "error", err, "address", l.addr)
	}
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
// connections have ShutdownTimeout, and returns the context's cause, joined with
// a *TimeoutError if some had to be aborted. After Close it returns an error
// matching net.ErrClosed, without waiting for the connections; so it does if
// somebody else has closed the listener, with the listener's error inside. A
// second call at the same time is an error. asyncio: serve_forever, which on
// cancellation waits for ever and closes no connection.
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
		return s.closedError()
	case <-ctx.Done():
	}
	grace, cancel := s.grace()
	defer cancel()
	if err := s.Shutdown(grace); err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return context.Cause(ctx)
}

// grace is the context of a shutdown that nobody gave one for.
func (s *Server) grace() (context.Context, context.CancelFunc) {
	if d := orDefault(s.opts.ShutdownTimeout, defaultShutdownTimeout); d > 0 {
		return context.WithTimeoutCause(context.Background(), d, &TimeoutError{Op: "shutdown", After: d})
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
// from a callback of one of the server's connections it waits for itself. A
// second call asks again and waits, too. asyncio has no such thing.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closeBeside()
	for _, c := range s.streams() {
		c.requestShutdown()
	}
	err := s.Wait(ctx)
	if err != nil {
		s.AbortClients()
	}
	return err
}

// closeBeside is Close that does not wait for the Close of a caller's listener
// either: Wait does, as long as its context allows.
func (s *Server) closeBeside() {
	listeners, first := s.stop()
	switch {
	case !first:
	case slices.ContainsFunc(listeners, func(l *listener) bool { return l.foreign }):
		go s.closeListeners(listeners)
	default:
		s.closeListeners(listeners)
	}
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

// ConnectionInfo describes one open connection. Its State is "opening" before
// ConnectionMade, "open", "closing" while output goes out, over TLS "shutting"
// while the peer's close_notify is awaited, "ended" when nothing is waited for
// but goroutines, "lost" when the descriptor is closed and ConnectionLost runs,
// and "gone" for the moment between its return and the server's forgetting the
// connection.
type ConnectionInfo struct {
	LocalAddr, RemoteAddr net.Addr
	State                 string        // how far it is
	Age                   time.Duration // since it was accepted
	Buffered              int           // bytes of output not taken by the kernel
	Created               string        // in Debug, the stack of the goroutine that created it
}

// Connections lists what is open, newest first: every connection from its
// acceptance until its ConnectionLost has returned. asyncio has no such thing.
func (s *Server) Connections() []ConnectionInfo {
	var infos []ConnectionInfo
	for _, c := range s.streams() {
		infos = append(infos, c.info())
	}
	return infos
}

// FailedHandshakes returns how many connections were closed because their TLS
// handshake failed. Why is logged at level Debug.
func (s *Server) FailedHandshakes() uint64 { return s.failedHandshakes.Load() }

// ServeConn makes conn, which was accepted or hijacked elsewhere, a connection
// of this server: its factory provides the protocol, and Shutdown and Wait
// include it. conn has to be such as Attach takes. It does not block. An error
// matches net.ErrClosed after Close, is ErrTooManyConnections at
// MaxConnections, or says that conn cannot be served; conn stays the caller's
// then. asyncio: loop.connect_accepted_socket.
func (s *Server) ServeConn(conn net.Conn) error {
	if err := checkConn(conn); err != nil {
		return err
	}
	s.mu.Lock()
	if s.state >= serverClosed {
		defer s.mu.Unlock()
		return s.closedErrorLocked()
	}
	if s.fullLocked() {
		s.mu.Unlock()
		return ErrTooManyConnections
	}
	s.count++
	s.mu.Unlock()
	adopted := false
	defer func() {
		if !adopted { // conn may have panicked
			s.release()
		}
	}()
	if err := adopt(conn); err != nil {
		return err
	}
	adopted = true // serve sees to the slot
	if !s.serve(conn, true) {
		return s.closedError()
	}
	return nil
}

// LogValue is what a log record shows of a server.
func (s *Server) LogValue() slog.Value { return slog.AnyValue(s.Addrs()) }
