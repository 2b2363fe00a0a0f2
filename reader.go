package strand

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/gostrand/strand/internal/bufpool"
	"github.com/gostrand/strand/internal/sockio"
)

// longAgo is a deadline that has passed: it wakes whoever waits for a
// descriptor.
var longAgo = time.Unix(1, 0)

// run is the reader goroutine. How deep the calls below it go decides whether
// an idle connection costs a stack of 2 KiB or of 4: what is rare, and what
// has a large frame, is kept out of their way.
func (s *stream) run() {
	defer s.finish()
	s.d.protect(s.receiveAll)
}

// receiveAll makes the connection and reads until reading is over. A panic of
// a callback passes through it; protect is around it once, and not around
// every callback, because a defer for every message has a price.
func (s *stream) receiveAll() {
	if s.server != nil && !s.produce() {
		return
	}
	s.watchIdle()
	if s.kind == sockio.None {
		s.readPortable()
	} else {
		s.readPolled()
	}
}

// enter takes the turn for the reader, which has to know that it holds it: a
// panic or runtime.Goexit may take it out of a callback.
func (s *stream) enter() {
	s.d.enter()
	s.holdsTurn = true
}

func (s *stream) leave() {
	s.d.leave()
	s.holdsTurn = false
}

// begin runs ConnectionMade, unless the connection was ended before it.
func (s *stream) begin() {
	s.mu.Lock()
	if !s.life.advance(open) {
		s.mu.Unlock()
		return
	}
	s.life.made = true
	s.mu.Unlock()
	s.enter()
	s.proto.Load().ConnectionMade(s)
	s.reportMade(nil)
	s.leave()
}

// reportMade answers the creating call, once. If ConnectionMade does not
// return, the answer comes from finish.
func (s *stream) reportMade(err error) {
	if s.made != nil {
		s.made <- err
		s.made = nil
	}
}

// admit waits while reading is paused or past the end of file, and reports
// false when it is over.
func (s *stream) admit() bool {
	for s.gate.Load() {
		s.mu.Lock()
		switch {
		case s.life.isClosing():
			s.mu.Unlock()
			return false
		case s.paused || s.life.sawEOF:
			s.parkLocked()
		default:
			s.mu.Unlock()
		}
	}
	return true
}

// parkLocked makes the reader wait for wakeReaderLocked, and unlocks mu.
func (s *stream) parkLocked() {
	parked := make(chan struct{})
	s.parked = parked
	s.mu.Unlock()
	<-parked
}

// wakeReaderLocked gets the reader to look at the state again, wherever it
// waits. While a callback runs it only finds the deadline past when it comes
// back.
func (s *stream) wakeReaderLocked() {
	switch {
	case s.parked != nil:
		close(s.parked)
		s.parked = nil
	case s.fd >= 0 || s.inConn > 0:
		s.interrupted = s.conn.SetReadDeadline(longAgo) == nil
	}
}

// stopReadingLocked ends reading for good.
func (s *stream) stopReadingLocked() {
	s.gate.Store(true)
	s.wakeReaderLocked()
}

// The fast path: one call of RawConn.Read for the whole life. Inside it the
// goroutine waits for readiness holding no buffer, and the descriptor cannot
// be closed, so that Write may use it too.

func (s *stream) readPolled() {
	for {
		err := s.raw.Read(s.onReadable)
		s.mu.Lock()
		s.fd = -1
		over := s.life.isClosing()
		if !over {
			s.clearInterruptLocked(err)
		}
		s.mu.Unlock()
		if over || err == nil {
			return
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			s.fail(err)
			return
		}
	}
}

// clearInterruptLocked takes the past deadline back before the next wait. One
// that somebody else set on the conn means nothing to us either.
func (s *stream) clearInterruptLocked(err error) {
	if s.interrupted || errors.Is(err, os.ErrDeadlineExceeded) {
		s.interrupted = false
		s.conn.SetReadDeadline(time.Time{}) // it fails only on a closed conn, where the read fails too
	}
}

// onReadable receives until nothing is left. It returns false to wait for
// readiness, true when reading is over. The first call of each RawConn.Read
// has to try a read: the poller has forgotten what was ready before.
func (s *stream) onReadable(fd uintptr) bool {
	if s.fd < 0 { // only the reader changes it, so it may look without the lock
		s.enterPoller(fd)
	}
	for s.admit() {
		s.enter()
		if s.gate.Load() { // it was open before we had the turn
			s.leave()
			continue
		}
		more := s.receive(fd)
		s.leave()
		if !more {
			return false
		}
	}
	return true
}

func (s *stream) enterPoller(fd uintptr) {
	s.mu.Lock()
	s.fd = int(fd)
	isNew := s.life.phase == opening
	s.mu.Unlock()
	if isNew {
		s.begin()
	}
}

// receive does one receive and its callback, in turn, and reports whether
// another may find something.
func (s *stream) receive(fd uintptr) bool {
	p := s.proto.Load()
	if p.buffered != nil {
		return s.receiveInto(p.buffered, fd)
	}
	buf := bufpool.Get(s.readSize)
	n, more, err := sockio.Recv(s.kind, fd, buf.Data)
	if n > 0 {
		s.adaptReadSize(n, len(buf.Data))
		s.deliver(p, buf.Data[:n])
	}
	bufpool.Put(buf)
	return s.received(n, err) && more
}

// adaptReadSize goes from 64 KiB, which costs nothing while it is shared by
// all connections, to 256 KiB and back with what the peer sends.
func (s *stream) adaptReadSize(n, size int) {
	switch {
	case n == size:
		s.readSize = bufpool.Huge
	case n < bufpool.Large:
		s.readSize = bufpool.Large
	}
}

// deliver hands data to the protocol. The caller has the turn.
func (s *stream) deliver(p *binding, data []byte) {
	s.countArrived(len(data))
	if s.cfg.debug {
		s.deliverDebug(p, data)
		return
	}
	p.DataReceived(data)
}

func (s *stream) deliverDebug(p *binding, data []byte) {
	s.d.timed(func() { p.DataReceived(data) })()
	for i := range data {
		data[i] = 0xDB // whoever kept the slice shall see that it was not theirs
	}
}

func (s *stream) countArrived(n int) {
	if s.cfg.idleTimeout > 0 {
		s.arrived.Add(int64(n))
	}
}

// received looks at the outcome of a receive and reports whether reading goes
// on without waiting. The caller has the turn.
func (s *stream) received(n int, err error) bool {
	switch {
	case n > 0:
		return true
	case err == nil:
		s.peerEOF()
		return true // admit says what comes next
	case err == syscall.EAGAIN:
		return false
	}
	s.fail(s.opError("read", err))
	return true
}

// peerEOF tells the protocol that the peer sends no more. The caller has the
// turn.
func (s *stream) peerEOF() {
	s.mu.Lock()
	if s.life.isClosing() {
		s.mu.Unlock()
		return
	}
	s.life.sawEOF = true
	s.gate.Store(true)
	s.mu.Unlock()
	if !s.proto.Load().EOFReceived() {
		s.Close()
	}
}

// opError dresses an error of a raw system call as package net does.
func (s *stream) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: s.local.Network(), Source: s.local, Addr: s.remote, Err: os.NewSyscallError(op, err)}
}

// The portable path: any net.Conn, through its own Read.

func (s *stream) readPortable() {
	s.begin()
	size := bufpool.Small
	for s.admit() {
		buf := bufpool.Get(size)
		n, err := s.readConn(buf.Data)
		s.takeChunk(buf.Data[:n], err)
		size = nextSize(n, len(buf.Data))
		bufpool.Put(buf)
	}
}

// nextSize lets the buffer, which is held while waiting, grow and shrink with
// what a read brings.
func nextSize(n, size int) int {
	switch {
	case n == size:
		return size * 4
	case n < size/8:
		return bufpool.Small
	}
	return size
}

// readConn is one Read of a foreign conn.
func (s *stream) readConn(p []byte) (int, error) {
	s.mu.Lock()
	if s.gate.Load() {
		s.mu.Unlock()
		return 0, os.ErrDeadlineExceeded
	}
	s.inConn++
	s.mu.Unlock()
	n, err := s.conn.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inConn--
	s.clearInterruptLocked(err)
	return n, err
}

// takeChunk delivers what a Read brought as soon as reading is allowed: it may
// have been paused, or closed, meanwhile.
func (s *stream) takeChunk(data []byte, err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil // a wake-up
	}
	for (len(data) > 0 || err != nil) && s.admit() {
		s.enter()
		switch {
		case s.gate.Load():
		case len(data) > 0:
			s.feed(s.proto.Load(), data)
			data = nil
		case err == io.EOF:
			s.peerEOF()
			err = nil
		default:
			s.fail(err)
			err = nil
		}
		s.leave()
	}
}

// ReadTransport

func (s *stream) IsReading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.paused && !s.life.isClosing()
}

func (s *stream) PauseReading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused || s.life.isClosing() {
		return
	}
	s.paused = true
	s.gate.Store(true)
	if s.inConn > 0 {
		s.wakeReaderLocked() // on the fast path it looks at the gate before it reads
	}
}

func (s *stream) ResumeReading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.paused || s.life.isClosing() {
		return
	}
	s.paused = false
	if !s.life.sawEOF {
		s.gate.Store(false)
	}
	if s.parked != nil {
		s.wakeReaderLocked()
	}
}
