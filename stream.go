package strand

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gostrand/strand/internal/sendq"
	"github.com/gostrand/strand/internal/sockio"
)

// stream is the transport of everything that carries a byte stream. It is put
// together from mechanisms that have a file each: the life cycle and flow
// control (pure state), the dispatcher (who may run callbacks), the reader and
// the writer. What is here is the transport's methods, and the end of it.
//
// Two goroutines work for a stream. The reader (run) lives as long as the
// connection: it reads, runs the callbacks, and when the end is decided it
// closes the descriptor and runs ConnectionLost. The writer (writeLoop) exists
// while there is a backlog.
type stream struct {
	// Fixed before the reader starts.
	cfg     *config
	conn    net.Conn
	local   net.Addr
	remote  net.Addr
	raw     syscall.RawConn // what the reader waits for, on the fast path
	wraw    syscall.RawConn // what the writer waits for
	kind    sockio.Kind     // None: conn is only used through its methods
	pipe    *pipeConn       // conn, if it is a pipe
	server  *Server         // whose connection this is, or nil
	child   *subprocess     // whose pipe this is, or nil
	created int64           // Unix time in nanoseconds
	origin  []byte          // the stack of the creation, in Debug
	made    chan error      // nil, or receives once: what the creating call has to return

	d       *dispatcher // &own, or child's
	own     dispatcher
	proto   atomic.Pointer[binding]
	gate    atomic.Bool  // reading is not allowed now: paused, at EOF, or closing
	arrived atomic.Int64 // bytes received, counted for IdleTimeout only
	alive   atomic.Bool  // the socket took a write since the reader last woke

	// Used by the reader goroutine alone.
	holdsTurn bool
	inPoller  bool // inside raw.Read, past the first call of onReadable
	readSize  int
	receives  uint8       // counted up to inqAfter
	recvKind  sockio.Kind // how to receive: kind, or TCPInq
	tls       *tlsLayer // the topmost layer that is in use, nil for a plain connection

	mu          sync.Mutex
	life        lifecycle     // mu
	flow        flowControl   // mu
	out         sendq.Queue   // mu
	sent        int64         // mu; bytes the kernel has taken
	fd          int           // mu; what Write may use while the reader is inside raw.Read, else -1
	polling     bool          // mu; the reader is inside raw.Read
	writing     bool          // mu; a writer goroutine exists
	paused      bool          // mu; PauseReading
	interrupted bool          // mu; the read deadline is in the past to wake the reader
	inConn      int           // mu; goroutines inside a Read or Write of a foreign conn
	parked      chan struct{} // mu; closed to wake the reader, which waits there
	closer      chan struct{} // mu; closed when closeForeign has closed the conn
	limits      *limits       // mu; timers, made when the first is needed, nil before
	ending      ending        // mu
	transfer    *transfer     // mu; the Sendfile in progress
	sec         *security     // mu; everything about TLS, nil before it is wanted

	next, prev *stream // the server's list, under its lock
}

// binding is a protocol with its abilities looked up.
type binding struct {
	Protocol
	buffered BufferedProtocol // nil if it is none
}

func bind(p Protocol) *binding {
	b := &binding{Protocol: p}
	b.buffered, _ = p.(BufferedProtocol)
	return b
}

// newStream takes conn over. The caller starts run.
func newStream(conn net.Conn, cfg *config) *stream {
	s := &stream{
		cfg:     cfg,
		conn:    conn,
		local:   conn.LocalAddr(),
		remote:  conn.RemoteAddr(),
		created: time.Now().UnixNano(),
		fd:      -1,
	}
	if s.pipe, _ = conn.(*pipeConn); s.pipe != nil {
		s.raw, s.wraw, s.kind = s.pipe.raw, s.pipe.wraw, s.pipe.kind
	} else {
		s.raw, s.kind = sockio.Of(conn)
		s.wraw = s.raw
	}
	s.recvKind = s.kind
	s.own.owner, s.own.cfg = s, cfg
	s.d = &s.own
	s.setGateLocked()
	s.flow.low, s.flow.high = cfg.low, cfg.high
	if cfg.debug {
		s.origin = debug.Stack()
	}
	return s
}

// finish is the end of the reader goroutine and of the connection. Each of its
// steps is deferred behind the one before, because a callback that calls
// runtime.Goexit takes the goroutine away, but not its deferred calls.
func (s *stream) finish() {
	s.dropTurn()
	s.awaitEnd()
	s.enter()
	defer s.gone()
	if s.child != nil {
		defer s.child.partGone()
	}
	defer s.lose()
	s.dropUpgrade()
	if s.child == nil {
		s.d.seal()
	}
}

// dropTurn gives up the turn that a panic or runtime.Goexit has left the
// reader with. What is queued is run elsewhere: this goroutine may be dying.
func (s *stream) dropTurn() {
	if s.holdsTurn {
		s.holdsTurn = false
		go s.d.drain()
	}
}

// awaitEnd waits until the end is decided and nobody else uses the conn.
func (s *stream) awaitEnd() {
	s.mu.Lock()
	for s.life.phase < ended || s.writing {
		s.parkLocked()
		s.mu.Lock()
	}
	closer := s.closer
	s.mu.Unlock()
	if closer != nil {
		<-closer
	}
}

// lose closes the descriptor, and then tells the protocol: ConnectionLost may
// want to listen on the same address again.
func (s *stream) lose() {
	if s.closer == nil { // no lock: nobody starts one any more
		s.closeConn()
	}
	s.mu.Lock()
	s.life.advance(lost)
	made, cause := s.life.made, s.life.cause
	s.mu.Unlock()
	if made {
		s.d.run(func() { s.proto.Load().ConnectionLost(cause) })
	}
}

// gone survives ConnectionLost, whatever it does.
func (s *stream) gone() {
	s.mu.Lock()
	s.life.advance(gone)
	s.ending.over()
	s.mu.Unlock()
	s.holdsTurn = false
	s.d.leaveAnyhow()
	if s.server != nil {
		s.server.detach(s)
	}
	s.reportMade(s.endError())
}

// endError is the end as an error, also if it was a clean one: for calls that
// it has come too early for.
func (s *stream) endError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.cause == nil {
		return closedError{}
	}
	return s.life.cause
}

// endLocked decides the end, if it is not decided yet: nothing is read or
// written from here on, and whoever waits on the connection is woken.
func (s *stream) endLocked(cause error) {
	if s.life.end(cause) {
		s.endedLocked()
	}
}

func (s *stream) endedLocked() {
	if !s.life.graceful() {
		s.flow.drop()
	}
	if !s.writing {
		s.out.Reset() // otherwise the writer may be reading from it, and resets it on leaving
	}
	s.limits.stop()
	s.ending.decided(s.life.cause)
	s.stopReadingLocked()
	if s.transfer != nil {
		s.transfer.signal()
	}
	if s.writing && s.kind != sockio.None {
		s.conn.SetWriteDeadline(longAgo) // wakes the writer; on a closed conn nothing has to
	}
	if s.inConn > 0 {
		s.closer = make(chan struct{})
		go s.closeForeign(s.closer)
	}
}

// fail ends the connection because of err.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

func (s *stream) failLocked(err error) {
	if s.life.phase < ended && s.cfg.debug {
		s.cfg.log.Debug("strand: connection failed", "error", err, "transport", s)
	}
	s.endLocked(err)
}

// closeForeign closes a conn in whose methods a goroutine of ours is: only its
// Close is sure to bring that back, and it may itself take long, so that this
// is a goroutine of its own. It takes the turn, for while a callback runs the
// descriptor stays open.
func (s *stream) closeForeign(done chan<- struct{}) {
	defer close(done)
	s.d.enter()
	defer s.d.leaveAnyhow()
	s.closeConn()
}

// closeConn closes the descriptor. The end is decided, so that the life cycle
// may be looked at without the lock.
func (s *stream) closeConn() {
	if c, ok := s.conn.(*tls.Conn); ok && !s.life.graceful() {
		c.NetConn().Close() // tls.Conn's Close would take up to 5 s to say goodbye
	}
	if err := s.conn.Close(); err != nil && s.cfg.debug {
		s.cfg.log.Debug("strand: close failed", "error", err, "transport", s)
	}
}

// callbackOwner

func (s *stream) runUrgent() {
	for {
		s.mu.Lock()
		e := noEdge
		if s.life.made {
			e = s.flow.next()
		}
		s.mu.Unlock()
		p := s.proto.Load()
		switch e {
		case noEdge:
			return
		case pauseEdge:
			s.d.run(p.PauseWriting)
		case resumeEdge:
			s.d.run(p.ResumeWriting)
		}
	}
}

func (s *stream) callbackFailed(err *PanicError) {
	if s.isExiting(err) {
		return
	}
	s.cfg.log.Error("strand: callback panicked", "error", err, "stack", string(err.Stack), "transport", s)
	s.fail(err)
}

// isExiting reports whether err is a runtime.Goexit that was reported already:
// one in a posted func goes on through the callers of the dispatcher.
func (s *stream) isExiting(err *PanicError) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, ok := s.life.cause.(*PanicError)
	return ok && first.Value == error(errGoexit) && err.Value == error(errGoexit)
}

// LogValue is what a log record shows of the transport.
func (s *stream) LogValue() slog.Value {
	return slog.GroupValue(slog.String("local", addrString(s.local)), slog.String("remote", addrString(s.remote)))
}

func addrString(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// BaseTransport

func (s *stream) Close() error {
	s.mu.Lock()
	goodbye := s.closeLocked()
	s.mu.Unlock()
	if goodbye {
		s.sayGoodbye()
	}
	return nil
}

// closeLocked begins the graceful end. It returns true if the caller, without
// the lock, has to say goodbye over TLS.
func (s *stream) closeLocked() (goodbye bool) {
	secured := s.sec != nil && s.sec.top != nil
	if !s.life.close(secured || s.pendingLocked()) {
		return false
	}
	if s.life.phase == ended {
		s.endedLocked()
		return false
	}
	s.limitsLocked().startClose()
	s.stopReadingLocked()
	if s.transfer != nil {
		s.transfer.interruptLocked()
	}
	return secured && s.sec.up == nil
}

func (s *stream) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abortLocked()
}

func (s *stream) abortLocked() {
	if s.life.abort() {
		s.endedLocked()
	}
}

func (s *stream) IsClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life.isClosing()
}

func (s *stream) ExtraInfo(name string) any {
	if s.pipe != nil {
		return s.pipe.extraInfo(name)
	}
	switch name {
	case ExtraSSLContext, ExtraSSLObject, ExtraPeerCert, ExtraCipher:
		return s.tlsInfo(name)
	case ExtraSocket:
		if sc, ok := s.conn.(syscall.Conn); ok {
			if raw, err := sc.SyscallConn(); err == nil {
				return controlOnly{raw}
			}
		}
	case ExtraSockname:
		return addrOrNil(s.local)
	case ExtraPeername:
		return addrOrNil(s.remote)
	}
	return nil
}

// addrOrNil keeps a nil address a nil any.
func addrOrNil(a net.Addr) any {
	if a == nil {
		return nil
	}
	return a
}

func (s *stream) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending.of(&s.life).ctx
}

func (s *stream) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending.of(&s.life).done
}

func (s *stream) CallSoon(fn func()) bool { return s.d.post(fn) }

func (s *stream) CallLater(d time.Duration, fn func()) *Timer { return s.d.callLater(d, fn) }

// Transport

func (s *stream) SetProtocol(p Protocol) {
	if isNil(p) {
		panic("strand: SetProtocol(nil)")
	}
	s.proto.Store(bind(p))
}

func (s *stream) Protocol() Protocol { return s.proto.Load().Protocol }

func (s *stream) LocalAddr() net.Addr { return s.local }

func (s *stream) RemoteAddr() net.Addr { return s.remote }

// controlOnly is the part of a descriptor that users may touch: reading and
// writing behind the transport's back would break the order of the bytes
// (XI-02).
type controlOnly struct{ raw syscall.RawConn }

func (c controlOnly) Control(f func(fd uintptr)) error { return c.raw.Control(f) }
func (controlOnly) Read(func(fd uintptr) bool) error   { return os.ErrInvalid }
func (controlOnly) Write(func(fd uintptr) bool) error  { return os.ErrInvalid }

var (
	_ Transport       = (*stream)(nil)
	_ callbackOwner   = (*stream)(nil)
	_ slog.LogValuer  = (*stream)(nil)
	_ syscall.RawConn = controlOnly{}
)
