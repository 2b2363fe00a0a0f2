package strand

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// longAgo is a deadline that has passed: it wakes whoever waits for a
// descriptor.
var longAgo = time.Unix(1, 0)

// run is the reader goroutine. How deep the calls below it go decides whether
// an idle connection costs a stack of 2 KiB or of 4: what is rare, and what
// has a large frame, is kept out of their way.
func (b *base) run() {
	defer b.finish()
	b.d.protect(b.receiveAll)
}

// receiveAll makes the connection and reads until reading is over. A panic of
// a callback passes through it; protect is around it once, and not around
// every callback, because a defer for every message has a price.
func (b *base) receiveAll() {
	b.watchIdle()
	if b.owner.prepare() {
		b.owner.read()
	}
}

// enter takes the turn for the reader, which has to know that it holds it: a
// panic or runtime.Goexit may take it out of a callback.
func (b *base) enter() {
	b.d.enter()
	b.holdsTurn = true
}

func (b *base) leave() {
	b.d.leave()
	b.holdsTurn = false
}

// begin runs ConnectionMade, unless the connection was ended before it.
func (b *base) begin() {
	b.enter()
	b.mu.Lock()
	if b.life.advance(open) {
		b.life.made = true
		b.edgesLocked() // a handshake may have crossed a mark
		b.mu.Unlock()
		b.owner.connectionMade()
		b.reportMade(nil)
	} else {
		b.mu.Unlock()
	}
	b.leave()
}

// reportMade answers the creating call, once. If ConnectionMade does not
// return, the answer comes from finish.
func (b *base) reportMade(err error) {
	if b.made != nil {
		b.made <- err
		b.made = nil
	}
}

// admit waits while reading is not allowed, and reports false when it is over,
// or when the reader has something else to do.
func (b *base) admit() bool {
	for b.gate.Load() {
		b.mu.Lock()
		if _, busy := b.owner.heldLocked(); busy || b.life.isClosing() {
			b.mu.Unlock()
			return false
		}
		if b.setGateLocked() {
			b.parkLocked()
		} else {
			b.mu.Unlock()
		}
	}
	return true
}

// setGateLocked brings the gate in line with what closes it, and returns it.
func (b *base) setGateLocked() bool {
	held, _ := b.owner.heldLocked()
	shut := held || b.paused || b.life.sawEOF || b.life.isClosing()
	b.gate.Store(shut)
	return shut
}

// parkLocked makes the reader wait for wakeReaderLocked, and unlocks mu.
func (b *base) parkLocked() {
	parked := make(chan struct{})
	b.parked = parked
	b.mu.Unlock()
	<-parked
}

// wakeReaderLocked gets the reader to look at the state again, wherever it
// waits. The caller has shut the gate, or knows that the reader is parked. If it
// is awake there is nothing to do, which matters when a callback closes its own
// connection: setting a deadline takes more stack than a goroutine has at first.
// A caller's tlsConn is left alone, because a handshake that meets a deadline
// has failed for good: what its Read brings is held or dropped, and at the end it
// is closed. Only for something better to do it is woken.
func (b *base) wakeReaderLocked() {
	switch {
	case b.parked != nil:
		close(b.parked)
		b.parked = nil
	case b.polling && b.isAwake():
	case b.polling || b.inConn > 0:
		if _, busy := b.owner.heldLocked(); busy || !b.untimed {
			b.interrupted = b.setReadDeadlineLocked(longAgo)
		}
	}
}

// setReadDeadlineLocked is the descriptor's SetReadDeadline, and reports
// whether it worked. It may be anybody's: if it panics, the connection ends, and
// whoever happened to call, a timer perhaps, goes on.
func (b *base) setReadDeadlineLocked(t time.Time) (ok bool) {
	returned := false
	defer func() {
		if !returned {
			err := newPanicError(recover())
			b.d.post(func() { b.logPanic(err) }) // not under the lock: a slog.Handler may ask for it
			b.endLocked(err)
		}
	}()
	ok = b.owner.descriptor().SetReadDeadline(t) == nil
	returned = true
	return ok
}

// stopReadingLocked ends reading for good.
func (b *base) stopReadingLocked() {
	b.gate.Store(true)
	b.wakeReaderLocked()
}

// The fast path: one call of RawConn.Read for the whole life. Inside it the
// goroutine waits for readiness holding no buffer, and the descriptor cannot
// be closed, so that writing may use it too.

// readPolled reads until reading is over. If others have the descriptor too, it
// does so inside RawConn.Control, which keeps the descriptor's number ours: they
// may close it behind our back, and what is sent must not go to whoever gets the
// number next. All others are spared the stack that this takes.
func (b *base) readPolled() {
	if !b.shared {
		b.pollUntilOver(0)
	} else if err := b.raw.Control(b.pollShared); err != nil {
		b.fail(err)
	}
}

// pollShared is pollUntilOver inside RawConn.Control. A panic of a callback passes
// through it, and the handler that logs the panic may take its time: until the
// end is decided nobody must use a number that is not held any more.
func (b *base) pollShared(fd uintptr) {
	defer b.forgetDescriptor()
	b.pollUntilOver(fd)
}

func (b *base) forgetDescriptor() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fd = -1
}

func (b *base) pollUntilOver(uintptr) {
	for !b.owner.over(b.poll(b.onReadable)) {
	}
}

// poll is a RawConn.Read that others can interrupt.
func (b *base) poll(onReadable func(fd uintptr) bool) error {
	b.mu.Lock()
	if b.life.phase >= ended {
		b.mu.Unlock()
		return nil
	}
	b.polling = true
	b.mu.Unlock()
	err := b.raw.Read(onReadable)
	b.inPoller = false
	b.mu.Lock()
	b.polling, b.fd = false, -1
	if b.life.phase < ended {
		b.clearInterruptLocked(err)
	}
	b.mu.Unlock()
	return err
}

// over is the owner's, for one that does nothing but read.
func (b *base) over(err error) bool {
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		b.fail(err)
	}
	return b.IsClosing()
}

// clearInterruptLocked takes the past deadline back before the next wait. One
// that somebody else set on the conn means nothing to us either.
func (b *base) clearInterruptLocked(err error) {
	if b.interrupted || errors.Is(err, os.ErrDeadlineExceeded) {
		b.interrupted = false
		b.setReadDeadlineLocked(time.Time{}) // it fails only on a closed conn, where the read fails too
	}
}

// onReadable receives until nothing is left. It returns false to wait for
// readiness, true when reading is over. The first call of each RawConn.Read
// has to try a read: the poller has forgotten what was ready before.
func (b *base) onReadable(fd uintptr) bool {
	b.wakes.Add(1)
	if !b.inPoller {
		b.enterPoller(fd) // ConnectionMade may end the connection, too
	}
	for b.admit() {
		b.enter()
		if b.gate.Load() { // it was open before we had the turn
			b.leave()
			continue
		}
		more := b.owner.receive(fd)
		b.leave()
		if !more && b.mayWait() {
			return false
		}
	}
	b.wakes.Add(1)
	return true
}

// mayWait is asked before the reader waits. Whoever shuts the gate later finds
// it waiting, and wakes it.
func (b *base) mayWait() bool {
	b.wakes.Add(1)
	if !b.gate.Load() {
		return true
	}
	b.wakes.Add(1)
	return false
}

// isAwake reports whether the reader will look at the gate before it waits. It
// is asked after the gate was shut.
func (b *base) isAwake() bool { return b.wakes.Load()%2 == 1 }

func (b *base) enterPoller(fd uintptr) {
	b.inPoller = true
	b.mu.Lock()
	if !b.split {
		b.fd = int(fd)
	}
	isNew := b.life.phase == opening
	b.mu.Unlock()
	if isNew {
		b.begin()
	}
}

func (b *base) countArrived(n int) {
	if b.cfg.idleTimeout > 0 {
		b.arrived.Add(int64(n))
	}
}

// enterConn is called before a method of a foreign conn that reads, and reports
// false if reading is not allowed. Only pastGate it is allowed while the gate
// is shut.
func (b *base) enterConn(pastGate bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.life.phase >= ended || !pastGate && b.gate.Load() {
		return false
	}
	b.inConn++
	return true
}

// leaveConn is called behind it, with its error, and reports whether it was
// woken.
func (b *base) leaveConn(err error) (woken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inConn--
	woken = b.interrupted
	if b.life.phase < ended {
		b.clearInterruptLocked(err)
	}
	return woken
}

// opError dresses an error of a raw system call as package net does.
func (b *base) opError(op string, err error) error {
	if _, ok := err.(syscall.Errno); !ok {
		return err
	}
	wrapped := &net.OpError{Op: op, Source: b.local, Addr: b.remote, Err: os.NewSyscallError(op, err)}
	if b.local != nil { // a foreign conn may have no address
		wrapped.Net = b.local.Network()
	}
	return wrapped
}

// ReadTransport

func (b *base) IsReading() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.paused && !b.life.isClosing()
}

func (b *base) PauseReading() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.paused || b.life.isClosing() {
		return
	}
	b.paused = true
	b.setGateLocked()
	if b.inConn > 0 {
		b.wakeReaderLocked() // on the fast path it looks at the gate before it reads
	}
}

func (b *base) ResumeReading() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.paused || b.life.isClosing() {
		return
	}
	b.paused = false
	b.setGateLocked()
	if b.parked != nil {
		b.wakeReaderLocked()
	}
}
