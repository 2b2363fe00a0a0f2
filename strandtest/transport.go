package strandtest

import (
	"cmp"
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gostrand/strand"
)

// Transport is a fake strand.Transport for unit tests of one protocol. It has
// no goroutine, no connection and no clock of its own: callbacks run inside the
// test's calls of NewTransport, Run, the Feed methods, Take, Release, Advance,
// Written and Lost, which return when nothing is left to run. What a callback or
// another goroutine causes (a water mark, CallSoon, the end) is queued, and
// run in the order of the real transport by the running call, or the next.
//
// What the protocol writes is taken by an imaginary peer at once. After Hold it
// is kept back as by a peer that does not read, until Take or Release.
//
// A panic of a callback passes through to the test. All methods of
// strand.Transport may be called from any goroutine, and the test's own from
// one at a time and not from callbacks. A Transport that is dropped needs no
// Close.
type Transport struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed after ConnectionLost

	mu      sync.Mutex
	p       strand.Protocol
	busy    bool     // a callback runs
	posted  []func() // CallSoon
	timers  []*fakeTimer
	now     time.Duration // the fake's clock: the sum of all Advance
	extra   map[string]any
	written []byte // taken, and not asked for by the test

	// Reading.
	paused bool
	inbox  []input // fed and not delivered
	sawEOF bool

	// Writing.
	hold      bool
	backlog   []byte
	low, high int
	full      bool // crossed the high-water mark, and not yet the low one
	eof       bool // WriteEOF

	owesPause, owesResume bool // what the protocol was not told yet

	// The end.
	closing bool  // Close, Abort, an error
	aborted bool  // Abort was what ended it
	ended   bool  // ConnectionLost is next or past
	lost    bool  // ConnectionLost was called
	cause   error // its argument
}

// input is what Feed, FeedEOF and FeedError leave for the protocol.
type input struct {
	data []byte
	eof  bool
	err  error
}

type fakeTimer struct {
	at time.Duration
	fn func() // nil once it was stopped or has fired
}

// NewTransport returns a fake that is connected to p, whose ConnectionMade has
// returned.
func NewTransport(p strand.Protocol) *Transport {
	f := &Transport{p: p, done: make(chan struct{}), low: 16 << 10, high: 64 << 10, extra: make(map[string]any)}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	f.busy = true
	f.call(func() { p.ConnectionMade(f) })
	f.Run()
	return f
}

// What the test does.

// Run runs what is queued, and what that queues: funcs of CallSoon, water marks,
// the end. With a func that posts itself again and again it does not return.
func (f *Transport) Run() {
	f.mu.Lock()
	for !f.busy {
		fn := f.nextLocked()
		if fn == nil {
			break
		}
		f.busy = true
		f.mu.Unlock()
		f.call(fn)
		f.mu.Lock()
	}
	f.mu.Unlock()
}

// call runs one callback. The caller has set busy.
func (f *Transport) call(fn func()) {
	defer func() {
		f.mu.Lock()
		f.busy = false
		f.mu.Unlock()
	}()
	fn()
}

// nextLocked returns the callback whose turn it is, nil if there is none.
func (f *Transport) nextLocked() func() {
	p := f.p
	switch {
	case f.lost:
		return nil
	case f.owesPause:
		f.owesPause = false
		return p.PauseWriting
	case f.owesResume:
		f.owesResume = false
		return p.ResumeWriting
	case len(f.posted) > 0:
		fn := f.posted[0]
		f.posted = f.posted[1:]
		return fn
	case f.ended:
		f.lost = true
		return f.lose
	case f.closing || f.paused || len(f.inbox) == 0:
		return nil
	}
	in := f.inbox[0]
	f.inbox = f.inbox[1:]
	return func() { f.deliver(p, in) }
}

func (f *Transport) lose() {
	defer close(f.done)
	f.Protocol().ConnectionLost(f.cause)
}

func (f *Transport) deliver(p strand.Protocol, in input) {
	switch {
	case in.err != nil:
		f.end(in.err)
	case in.eof:
		if !p.EOFReceived() {
			f.Close()
		}
	default:
		receive(p, in.data)
	}
}

// receive hands data to a protocol, buffered or not. A plain protocol's slice
// is overwritten afterwards, as it is not the protocol's to keep.
func receive(p strand.Protocol, data []byte) {
	b, ok := p.(strand.BufferedProtocol)
	if !ok {
		p.DataReceived(data)
		poison(data)
		return
	}
	for len(data) > 0 {
		n := copy(b.GetBuffer(len(data)), data)
		if n == 0 {
			panic("strandtest: GetBuffer returned an empty buffer")
		}
		b.BufferUpdated(n)
		data = data[n:]
	}
}

// poison makes a slice useless for who kept it.
func poison(data []byte) {
	for i := range data {
		data[i] = 0xDB
	}
}

// Feed has the protocol receive data, in one DataReceived. While reading is
// paused it is kept for later; when the transport is closing, and after
// FeedEOF, it is dropped.
func (f *Transport) Feed(data string) {
	if data != "" {
		f.feed(input{data: []byte(data)})
	}
}

// FeedBytes feeds data in pieces cut by c, with the random choices of seed.
func (f *Transport) FeedBytes(data []byte, c Chunks, seed uint64) {
	r := newRand(seed, 5)
	for len(data) > 0 {
		n := c.next(r, len(data))
		f.Feed(string(data[:n]))
		data = data[n:]
	}
}

// FeedEOF ends the input: EOFReceived, and then the end of the connection if
// that returns false.
func (f *Transport) FeedEOF() { f.feed(input{eof: true}) }

// FeedError ends the connection with an error of the network, once all that
// was fed before is delivered.
func (f *Transport) FeedError(err error) { f.feed(input{err: err}) }

func (f *Transport) feed(in input) {
	f.mu.Lock()
	if !f.closing && !(f.sawEOF && in.err == nil) {
		f.inbox = append(f.inbox, in)
		f.sawEOF = f.sawEOF || in.eof
	}
	f.mu.Unlock()
	f.Run()
}

// Written runs what is queued, and returns what the peer has taken since the
// last call.
func (f *Transport) Written() string {
	f.Run()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := string(f.written)
	f.written = nil
	return s
}

// Hold makes the peer stop reading: output is held, and counts for the water
// marks, until Take or Release.
func (f *Transport) Hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold = true
}

// Take makes the peer read n bytes of the output held, or all there is.
func (f *Transport) Take(n int) {
	f.mu.Lock()
	f.takeLocked(min(n, len(f.backlog)))
	f.mu.Unlock()
	f.Run()
}

// Release undoes Hold.
func (f *Transport) Release() {
	f.mu.Lock()
	f.hold = false
	f.takeLocked(len(f.backlog))
	f.mu.Unlock()
	f.Run()
}

// takeLocked has the peer take n bytes.
func (f *Transport) takeLocked(n int) {
	f.written = append(f.written, f.backlog[:n]...)
	f.backlog = f.backlog[n:]
	if n > 0 && f.full && len(f.backlog) <= f.low {
		f.full, f.owesResume = false, true
	}
	if f.closing && len(f.backlog) == 0 {
		f.endLocked(nil)
	}
}

// Advance lets d pass on the fake's clock, and runs the funcs of CallLater that
// are due, in the order of their times.
func (f *Transport) Advance(d time.Duration) {
	f.mu.Lock()
	end := f.now + d
	for {
		t := f.nextTimerLocked(end)
		if t == nil {
			break
		}
		f.now = max(f.now, t.at)
		f.posted = append(f.posted, t.takeFn())
		f.mu.Unlock()
		f.Run()
		f.mu.Lock()
	}
	f.now = end
	f.mu.Unlock()
	f.Run()
}

// nextTimerLocked removes and returns the earliest timer until end.
func (f *Transport) nextTimerLocked(end time.Duration) *fakeTimer {
	f.timers = slices.DeleteFunc(f.timers, func(t *fakeTimer) bool { return t.fn == nil })
	if len(f.timers) == 0 || f.ended {
		return nil
	}
	t := slices.MinFunc(f.timers, func(a, b *fakeTimer) int { return cmp.Compare(a.at, b.at) })
	if t.at > end {
		return nil
	}
	return t
}

func (t *fakeTimer) takeFn() func() {
	fn := t.fn
	t.fn = nil
	return fn
}

// Lost runs what is queued, and returns whether ConnectionLost was called and
// its argument.
func (f *Transport) Lost() (err error, lost bool) {
	f.Run()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cause, f.lost
}

// EOFWritten reports whether the protocol has called WriteEOF.
func (f *Transport) EOFWritten() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.eof
}

// Aborted reports whether the protocol has called Abort before the connection
// came to an end.
func (f *Transport) Aborted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.aborted
}

// SetExtraInfo sets what ExtraInfo returns. The names "sockname" and
// "peername" are for net.Addrs, which LocalAddr and RemoteAddr return too.
func (f *Transport) SetExtraInfo(name string, value any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.extra[name] = value
}

// strand.Transport

// end decides the end, unless it is decided.
func (f *Transport) end(cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(cause)
}

func (f *Transport) endLocked(cause error) {
	if f.ended {
		return
	}
	f.closing, f.ended, f.cause = true, true, cause
	if len(f.backlog) > 0 || cause != nil {
		f.owesPause, f.owesResume = false, false
	}
	f.backlog, f.inbox, f.timers = nil, nil, nil
	if cause == nil {
		cause = net.ErrClosed
	}
	f.cancel(cause)
}

// Close implements strand.BaseTransport.
func (f *Transport) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closing = true
	if len(f.backlog) == 0 {
		f.endLocked(nil)
	}
	return nil
}

// Abort implements strand.WriteTransport.
func (f *Transport) Abort() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.aborted = true
		f.owesPause, f.owesResume = false, false
		f.endLocked(nil)
	}
}

// IsClosing implements strand.BaseTransport.
func (f *Transport) IsClosing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closing
}

// ExtraInfo implements strand.BaseTransport.
func (f *Transport) ExtraInfo(name string) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.extra[name]
}

// Context implements strand.BaseTransport.
func (f *Transport) Context() context.Context { return f.ctx }

// Done implements strand.BaseTransport.
func (f *Transport) Done() <-chan struct{} { return f.done }

// CallSoon implements strand.BaseTransport: fn runs after the running callback,
// or in the test's next call.
func (f *Transport) CallSoon(fn func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		return false
	}
	f.posted = append(f.posted, fn)
	return true
}

// CallLater implements strand.BaseTransport: fn runs in the call of Advance
// that brings the fake's clock there.
func (f *Transport) CallLater(d time.Duration, fn func()) *strand.Timer {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := &fakeTimer{at: f.now + max(d, 0), fn: fn}
	if f.ended {
		t.fn = nil
	}
	f.timers = append(f.timers, t)
	return strand.NewTimer(func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return t.takeFn() != nil
	})
}

// IsReading implements strand.ReadTransport.
func (f *Transport) IsReading() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.paused && !f.closing
}

// PauseReading implements strand.ReadTransport.
func (f *Transport) PauseReading() { f.setPaused(true) }

// ResumeReading implements strand.ReadTransport. What was fed meanwhile is
// delivered after the running callback, or in the test's next call.
func (f *Transport) ResumeReading() { f.setPaused(false) }

func (f *Transport) setPaused(paused bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closing {
		f.paused = paused
	}
}

// Write implements strand.WriteTransport.
func (f *Transport) Write(p []byte) (int, error) { return f.WriteLines(p) }

// WriteLines implements strand.WriteTransport.
func (f *Transport) WriteLines(bufs ...[]byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.eof:
		return 0, strand.ErrWriteAfterEOF
	case f.closing:
		return 0, opError("write", fakeAddr, fakeAddr, net.ErrClosed)
	}
	n := 0
	for _, p := range bufs {
		f.backlog = append(f.backlog, p...)
		n += len(p)
	}
	if !f.hold {
		f.takeLocked(len(f.backlog))
	}
	f.checkHighLocked()
	return n, nil
}

func (f *Transport) checkHighLocked() {
	if f.full || len(f.backlog) <= f.high {
		return
	}
	f.full = true
	if f.owesResume {
		f.owesResume = false // this pause takes its place
	} else {
		f.owesPause = true
	}
}

// WriteEOF implements strand.WriteTransport. The test sees it in EOFWritten.
func (f *Transport) WriteEOF() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closing {
		f.eof = true
	}
	return nil
}

// CanWriteEOF implements strand.WriteTransport and returns true.
func (f *Transport) CanWriteEOF() bool { return true }

// WriteBufferSize implements strand.WriteTransport.
func (f *Transport) WriteBufferSize() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.backlog)
}

// WriteBufferLimits implements strand.WriteTransport.
func (f *Transport) WriteBufferLimits() (low, high int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.low, f.high
}

// SetWriteBufferLimits implements strand.WriteTransport.
func (f *Transport) SetWriteBufferLimits(high, low int) error {
	high, low, err := waterMarks(high, low)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.high, f.low = high, low
	if !f.ended {
		f.checkHighLocked()
	}
	return nil
}

// Writable implements strand.WriteTransport.
func (f *Transport) Writable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.full && !f.closing && !f.eof
}

// SetProtocol implements strand.Transport.
func (f *Transport) SetProtocol(p strand.Protocol) {
	if p == nil {
		panic("strandtest: SetProtocol(nil)")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.p = p
}

// Protocol implements strand.Transport.
func (f *Transport) Protocol() strand.Protocol {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.p
}

const fakeAddr Addr = "fake"

// LocalAddr implements strand.Transport.
func (f *Transport) LocalAddr() net.Addr { return f.addr(strand.ExtraSockname) }

// RemoteAddr implements strand.Transport.
func (f *Transport) RemoteAddr() net.Addr { return f.addr(strand.ExtraPeername) }

func (f *Transport) addr(name string) net.Addr {
	if a, ok := f.ExtraInfo(name).(net.Addr); ok {
		return a
	}
	return fakeAddr
}

var _ strand.Transport = (*Transport)(nil)
