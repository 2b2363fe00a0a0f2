package strand

import (
	"context"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// base is what a transport over one descriptor consists of, whatever it moves:
// the life of the descriptor and the end of it, the goroutine that reads
// (loop.go), what the goroutine that writes needs, and all that a transport
// answers about itself. What differs is asked of owner. asyncio:
// _SelectorTransport.
//
// Two goroutines work for a transport. The reader (run) lives as long as the
// connection: it reads, runs the callbacks, and when the end is decided it
// closes the descriptor and runs ConnectionLost. The writer exists while there
// is a backlog.
type base struct {
	// Fixed before the reader starts.
	owner   owner
	cfg     *config
	local   net.Addr        // of a foreign conn under mu, and fixed before ConnectionMade
	remote  net.Addr        // the same; nil if there is no single peer
	raw     syscall.RawConn // the descriptor's, for the fast path; nil: only its methods are used
	created int64           // Unix time in nanoseconds
	origin  []byte          // the stack of the creation, in Debug
	made    chan error      // nil, or receives once: what the creating call has to return

	split   bool // what is written to is another descriptor than raw's
	untimed bool // the descriptor is a caller's tlsConn: see wakeReaderLocked
	shared  bool // others may have the descriptor, too: see readPolled

	d       *dispatcher // &own, or one that several transports share
	own     dispatcher
	gate    atomic.Bool   // reading is not allowed now: see setGateLocked
	wakes   atomic.Uint32 // how often the reader woke or went to wait, by itself: odd while it is awake
	alive   atomic.Uint32 // what wakes was before the last send that the descriptor took
	arrived atomic.Int64  // bytes received, counted for IdleTimeout only

	// Used by the reader goroutine alone.
	holdsTurn bool
	inPoller  bool // inside raw.Read, past the first call of onReadable

	mu          sync.Mutex
	life        lifecycle     // mu
	flow        flowControl   // mu
	sent        int64         // mu; bytes the kernel has taken
	fd          int           // mu; what may be written to while the reader is inside raw.Read, else -1
	writing     bool          // mu; a writer goroutine exists
	paused      bool          // mu; PauseReading
	polling     bool          // mu; the reader is inside raw.Read
	interrupted bool          // mu; the read deadline is in the past to wake the reader
	inConn      int           // mu; goroutines inside a Read or Write of a foreign conn
	parked      chan struct{} // mu; closed to wake the reader, which waits there
	closer      chan struct{} // mu; closed when the descriptor's Close has returned
	limits      *limits       // mu; timers, made when the first is needed, nil before
	ending      ending        // mu
}

// owner is the transport that a base is part of.
type owner interface {
	// protocol returns the protocol. It is only asked for one after
	// ConnectionMade.
	protocol() BaseProtocol

	// prepare does what has to be done on the reader goroutine before
	// ConnectionMade, and reports whether the connection may begin.
	prepare() bool

	// connectionMade runs ConnectionMade. The caller has the turn.
	connectionMade()

	// read reads until reading is over.
	read()

	// over takes the outcome of poll and reports whether reading is over.
	over(err error) bool

	// receive receives once without blocking, runs the callbacks for it, and
	// reports whether another call may find something. The caller has the
	// turn.
	receive(fd uintptr) bool

	// heldLocked reports whether reading is not allowed for a reason of the
	// owner's, and whether the reader has something else to do meanwhile than
	// to wait.
	heldLocked() (held, busy bool)

	// writeLoop is the writer goroutine: writeUntilOver, with what it is to do
	// there.
	writeLoop()

	// written is called when the writer has come out of the descriptor, and
	// reports whether it is to end. If output ends here, this is where the end
	// is passed on.
	written(err error) (over bool)

	// flushOutputLocked sends what can be sent now, and reports whether a close
	// has to wait for output.
	flushOutputLocked() (pending bool)

	// dropOutputLocked forgets the backlog.
	dropOutputLocked()

	// endDecidedLocked is called when the end is decided.
	endDecidedLocked()

	// descriptor returns what is read from and written to.
	descriptor() descriptor

	// closeDescriptor closes it. The end is decided.
	closeDescriptor() error

	// winding is called before the last posted funcs run, lostInTurn after
	// ConnectionLost, both in turn, and released when the turn is given up and
	// the connection gone.
	winding()
	lostInTurn()
	released()
}

// descriptor is the part of net.Conn and net.PacketConn that base needs.
type descriptor interface {
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// init prepares a base whose owner, cfg, local, remote and raw are set.
func (b *base) init() {
	b.created = time.Now().UnixNano()
	b.fd = -1
	b.own.owner, b.own.cfg = b, b.cfg
	b.d = &b.own
	b.flow.low, b.flow.high = b.cfg.low, b.cfg.high
	if b.cfg.debug {
		b.origin = debug.Stack()
	}
}

// start starts the reader and waits for ConnectionMade. If ctx ends before, the
// connection is aborted.
func (b *base) start(ctx context.Context) error {
	made := make(chan error, 1)
	b.made = made
	go b.run()
	select {
	case err := <-made:
		return err
	case <-ctx.Done():
		b.Abort()
		return context.Cause(ctx)
	}
}

func (b *base) limitsLocked() *limits {
	if b.limits == nil {
		b.limits = &limits{
			cfg: b.cfg, mu: &b.mu, life: &b.life, sent: &b.sent, arrived: &b.arrived,
			writing: &b.writing, failLocked: b.endLocked,
		}
	}
	return b.limits
}

// watchIdle starts the idle timer, if there is to be one.
func (b *base) watchIdle() {
	if b.cfg.idleTimeout > 0 {
		b.mu.Lock()
		defer b.mu.Unlock()
		l := b.limitsLocked()
		l.idle.start(b.cfg.idleTimeout, l.checkIdle)
	}
}

// finish is the end of the reader goroutine and of the connection. Each of its
// steps is deferred behind the one before, because a callback that calls
// runtime.Goexit takes the goroutine away, but not its deferred calls.
func (b *base) finish() {
	b.dropTurn()
	b.awaitEnd()
	b.enter()
	defer b.gone()
	defer b.owner.lostInTurn()
	defer b.lose()
	b.owner.winding()
	if b.d == &b.own {
		b.d.seal()
	}
}

// dropTurn gives up the turn that a panic or runtime.Goexit has left the
// reader with. What is queued is run elsewhere: this goroutine may be dying.
func (b *base) dropTurn() {
	if b.holdsTurn {
		b.holdsTurn = false
		go b.d.drain()
	}
}

// awaitEnd waits until the end is decided and nobody else uses the conn.
func (b *base) awaitEnd() {
	b.mu.Lock()
	for b.life.phase < ended || b.writing {
		b.parkLocked()
		b.mu.Lock()
	}
	closer := b.closer
	b.mu.Unlock()
	if closer != nil {
		<-closer
	}
}

// lose closes the descriptor, and then tells the protocol: ConnectionLost may
// want to listen on the same address again.
func (b *base) lose() {
	defer b.tellLost()   // also if Close calls runtime.Goexit
	if b.closer == nil { // no lock: nobody starts one any more
		b.d.protect(b.closeConn)
	}
}

// tellLost runs ConnectionLost if there was a ConnectionMade.
func (b *base) tellLost() {
	b.mu.Lock()
	b.life.advance(lost)
	b.mu.Unlock()
	cause := b.life.cause // no lock: decided
	if cause != nil && b.cfg.debug {
		b.cfg.log.Debug("strand: connection failed", "error", cause, "transport", b)
	}
	if b.life.made {
		b.d.run(func() { b.owner.protocol().ConnectionLost(cause) })
	}
}

// gone survives ConnectionLost, whatever it does.
func (b *base) gone() {
	b.mu.Lock()
	b.life.advance(gone)
	b.ending.over()
	b.mu.Unlock()
	b.holdsTurn = false
	b.d.leaveAnyhow()
	b.owner.released()
	b.reportMade(b.endError())
}

// endError is the end as an error, also if it was a clean one: for calls that
// it has come too early for.
func (b *base) endError() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.life.cause == nil {
		return closedError{}
	}
	return b.life.cause
}

// endLocked decides the end, if it is not decided yet: nothing is read or
// written from here on, and whoever waits on the connection is woken.
func (b *base) endLocked(cause error) {
	if b.life.end(cause) {
		b.endedLocked()
	}
}

func (b *base) endedLocked() {
	if !b.life.graceful() {
		b.flow.drop()
	}
	if !b.writing {
		b.owner.dropOutputLocked() // otherwise the writer may be reading from it, and resets it on leaving
	}
	b.limits.stop()
	b.ending.decided(b.life.cause)
	b.owner.endDecidedLocked()
	if b.writing && b.raw != nil {
		b.owner.descriptor().SetWriteDeadline(longAgo) // wakes the writer; on a closed conn nothing has to
	}
	if b.inConn > 0 {
		b.closer = make(chan struct{})
		go b.closeForeign(b.closer)
	}
	b.stopReadingLocked()
}

// fail ends the connection because of err.
func (b *base) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLocked(err)
}

// closeForeign closes a conn in whose methods a goroutine of ours is: only its
// Close is sure to bring that back, and it may itself take long, so that this
// is a goroutine of its own. It takes the turn, for while a callback runs the
// descriptor stays open.
func (b *base) closeForeign(done chan<- struct{}) {
	defer close(done)
	b.d.enter()
	defer b.d.leaveAnyhow()
	b.d.protect(b.closeConn)
}

// closeConn closes the descriptor. The end is decided, so that the life cycle
// may be looked at without the lock.
func (b *base) closeConn() {
	if err := b.owner.closeDescriptor(); err != nil && b.cfg.debug {
		b.logCloseFailed(err)
	}
}

func (b *base) logCloseFailed(err error) {
	b.cfg.log.Debug("strand: close failed", "error", err, "transport", b)
}

// logInTurn logs an error that was met under a lock. A slog.Handler is the
// program's, and may ask the library something that takes the same lock.
func (b *base) logInTurn(msg string, err error) {
	b.d.post(func() { b.cfg.log.Debug(msg, "error", err, "transport", b) })
}

// callbackOwner

func (b *base) runUrgent() {
	for {
		b.mu.Lock()
		e := noEdge
		if b.life.made {
			e = b.flow.next()
		}
		b.mu.Unlock()
		p := b.owner.protocol()
		switch e {
		case noEdge:
			return
		case pauseEdge:
			b.d.run(p.PauseWriting)
		case resumeEdge:
			b.d.run(p.ResumeWriting)
		}
	}
}

func (b *base) callbackFailed(err *PanicError) {
	if b.isExiting(err) {
		return
	}
	b.logPanic(err)
	b.fail(err)
}

func (b *base) logPanic(err *PanicError) {
	b.cfg.log.Error("strand: callback panicked", "error", err, "stack", string(err.Stack), "transport", b)
}

// isExiting reports whether err is a runtime.Goexit that was reported already:
// one in a posted func goes on through the callers of the dispatcher.
func (b *base) isExiting(err *PanicError) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first, ok := b.life.cause.(*PanicError)
	return ok && first.Value == error(errGoexit) && err.Value == error(errGoexit)
}

// LogValue is what a log record shows of the transport.
func (b *base) LogValue() slog.Value {
	return slog.GroupValue(slog.String("local", addrString(b.local)), slog.String("remote", addrString(b.remote)))
}

func addrString(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// BaseTransport

func (b *base) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closeLocked()
	return nil
}

// closeLocked begins the graceful end, and reports whether it has to wait for
// output.
func (b *base) closeLocked() (waits bool) {
	if !b.life.close(b.owner.flushOutputLocked()) {
		return false
	}
	if b.life.phase == ended {
		b.endedLocked()
		return false
	}
	b.limitsLocked().startClose()
	b.stopReadingLocked()
	return true
}

func (b *base) Abort() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.abortLocked()
}

func (b *base) abortLocked() {
	if b.life.abort() {
		b.endedLocked()
	}
}

func (b *base) IsClosing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.life.isClosing()
}

func (b *base) ExtraInfo(name string) any {
	switch name {
	case ExtraSocket:
		if sc, ok := b.owner.descriptor().(syscall.Conn); ok {
			if raw, err := sc.SyscallConn(); err == nil {
				return controlOnly{raw}
			}
		}
	case ExtraSockname:
		return addrOrNil(b.local)
	case ExtraPeername:
		return addrOrNil(b.remote)
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

// controlOnly is the part of a descriptor that users may touch: reading and
// writing behind the transport's back would break the order of the bytes
// (XI-02).
type controlOnly struct{ raw syscall.RawConn }

func (c controlOnly) Control(f func(fd uintptr)) error { return c.raw.Control(f) }
func (controlOnly) Read(func(fd uintptr) bool) error   { return os.ErrInvalid }
func (controlOnly) Write(func(fd uintptr) bool) error  { return os.ErrInvalid }

func (b *base) Context() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ending.of(&b.life).ctx
}

func (b *base) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ending.of(&b.life).done
}

func (b *base) CallSoon(fn func()) bool { return b.d.post(fn) }

func (b *base) CallLater(d time.Duration, fn func()) *Timer { return b.d.callLater(d, fn) }

func (b *base) LocalAddr() net.Addr { return b.local }

func (b *base) RemoteAddr() net.Addr { return b.remote }

// What a WriteTransport and a DatagramTransport have in common.

func (b *base) WriteBufferSize() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flow.size
}

func (b *base) WriteBufferLimits() (low, high int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flow.low, b.flow.high
}

func (b *base) SetWriteBufferLimits(high, low int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.flow.setLimits(high, low)
	if b.life.phase < ended {
		b.edgesLocked()
	}
	return err
}

func (b *base) Writable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flow.writable() && !b.life.isClosing()
}

// edgesLocked has the protocol told of the water marks crossed, in turn.
func (b *base) edgesLocked() {
	if b.flow.due() {
		b.d.signalUrgent()
	}
}

// startWriterLocked starts the writer if there is none.
func (b *base) startWriterLocked() {
	if b.writing {
		return
	}
	b.beginWritingLocked()
	go b.owner.writeLoop()
}

// beginWritingLocked notes that somebody waits for the kernel to take output.
func (b *base) beginWritingLocked() {
	b.writing = true
	if b.cfg.writeTimeout > 0 {
		l := b.limitsLocked()
		l.write.start(b.cfg.writeTimeout, l.checkWrite)
	}
}

// writeUntilOver is the writer goroutine. It never runs a callback: a callback
// may wait for output to drain. write goes into the descriptor, for as long as
// it likes. That there is no writer any more is said only after it has left
// RawConn.Write, where a try of somebody else's would have to wait for it. If it
// panics, which a foreign conn may do, the connection ends as with a panic of
// its Read.
func (b *base) writeUntilOver(write func() error) {
	over := false
	defer func() {
		if !over {
			b.writerFailed(newPanicError(recover()))
		}
	}()
	for !over {
		over = b.owner.written(write())
	}
}

func (b *base) writerFailed(err *PanicError) {
	b.callbackFailed(err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owner.dropOutputLocked()
	b.writerGoneLocked()
}

// inConnLocked calls a method of a foreign conn, which may take its time,
// without the lock.
func (b *base) inConnLocked(call func() error) error {
	b.inConn++
	b.mu.Unlock()
	defer func() { // also if it panics
		b.mu.Lock()
		b.inConn--
	}()
	return call()
}

func (b *base) writerGoneLocked() bool {
	b.writing = false
	if b.limits != nil {
		b.limits.write.stop()
	}
	if b.parked != nil && b.life.phase >= ended {
		b.wakeReaderLocked()
	}
	return true
}

var (
	_ callbackOwner   = (*base)(nil)
	_ slog.LogValuer  = (*base)(nil)
	_ syscall.RawConn = controlOnly{}
)
