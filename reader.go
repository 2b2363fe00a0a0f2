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
	s.watchIdle()
	if s.wantsUpgrade() && !s.doUpgrade() {
		return
	}
	if s.server != nil && !s.produce() {
		return
	}
	if s.kind == sockio.None {
		s.readPortable()
	} else {
		s.readPolled()
	}
	if s.tls != nil {
		s.awaitGoodbye()
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
	s.enter()
	s.mu.Lock()
	if s.life.advance(open) {
		s.life.made = true
		s.edgesLocked() // a handshake may have crossed a mark
		s.mu.Unlock()
		if s.cfg.slow > 0 {
			s.d.timed(func() { s.proto.Load().ConnectionMade(s) })()
		} else {
			s.proto.Load().ConnectionMade(s)
		}
		s.reportMade(nil)
	} else {
		s.mu.Unlock()
	}
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
// false when it is over, or when TLS is to begin.
func (s *stream) admit() bool {
	for s.gate.Load() {
		s.mu.Lock()
		if s.life.isClosing() || s.upgradingLocked() {
			s.mu.Unlock()
			return false
		}
		if s.setGateLocked() {
			s.parkLocked()
		} else {
			s.mu.Unlock()
		}
	}
	return true
}

// setGateLocked brings the gate in line with what closes it, and returns it.
func (s *stream) setGateLocked() bool {
	shut := s.paused || s.life.sawEOF || s.unwatched() || s.life.isClosing() || s.upgradingLocked() || s.transfer != nil
	s.gate.Store(shut)
	return shut
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
	case s.polling || s.inConn > 0:
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
		err := s.poll(s.onReadable)
		if s.over(err) || s.wantsUpgrade() && !s.doUpgrade() {
			return
		}
	}
}

// poll is a RawConn.Read that others can interrupt.
func (s *stream) poll(onReadable func(fd uintptr) bool) error {
	s.mu.Lock()
	if s.life.phase >= ended {
		s.mu.Unlock()
		return nil
	}
	s.polling = true
	s.mu.Unlock()
	err := s.raw.Read(onReadable)
	s.inPoller = false
	s.mu.Lock()
	s.polling, s.fd = false, -1
	if s.life.phase < ended {
		s.clearInterruptLocked(err)
	}
	s.mu.Unlock()
	return err
}

// over takes the outcome of poll and reports whether reading is over.
func (s *stream) over(err error) bool {
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !s.readerGone() {
		s.fail(err)
	}
	return s.IsClosing() && !s.wantsUpgrade() // a handshake may have output waiting for it
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
	if !s.inPoller {
		s.enterPoller(fd)
	}
	s.alive.Store(false)
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
	s.inPoller = true
	s.mu.Lock()
	if s.pipe == nil || s.pipe.oneFile() {
		s.fd = int(fd)
	}
	isNew := s.life.phase == opening
	s.mu.Unlock()
	if isNew {
		s.begin()
	}
}

// receive does one receive and its callback, in turn, and reports whether
// another may find something.
func (s *stream) receive(fd uintptr) bool {
	if s.noRead() {
		return s.watchReader(fd)
	}
	p := s.proto.Load()
	if p.buffered != nil {
		return s.receiveInto(p.buffered, fd)
	}
	buf := bufpool.Get(s.readSize)
	n, more, err := s.recv(fd, buf.Data)
	if s.gate.Load() || s.proto.Load() != p {
		s.receivedLate(buf.Data[:n], err)
		bufpool.Put(buf)
		return true
	}
	if n > 0 {
		s.adaptReadSize(n, len(buf.Data))
		s.deliver(p, buf.Data[:n])
	}
	bufpool.Put(buf)
	return s.received(n, err) && !s.drained(more)
}

// receivedLate takes the outcome of a receive during which somebody else shut
// the gate, or installed another protocol: it may not be delivered before
// reading is allowed again (RD-02), and then to who is there (SP-01).
// The caller has the turn, and has it again afterwards.
func (s *stream) receivedLate(data []byte, err error) {
	switch {
	case err == syscall.EAGAIN:
		return
	case err != nil && !s.isPtyEnd(err):
		err = s.opError("read", err)
	case len(data) == 0:
		err = io.EOF
	}
	s.leave()
	s.takeChunk(data, err)
	s.enter()
}

// recv is one receive without waiting.
func (s *stream) recv(fd uintptr, p []byte) (n int, more bool, err error) {
	if s.tls != nil {
		return s.recvTLS(fd, p)
	}
	n, more, err = sockio.Recv(s.recvKind, fd, p)
	if s.receives < inqAfter {
		s.countReceive(fd)
	}
	return n, more, err
}

// inqAfter is the number of receives from which on a TCP socket is asked to
// tell what is left: for a connection that carries less it does not pay.
const inqAfter = 4

func (s *stream) countReceive(fd uintptr) {
	if s.receives++; s.receives == inqAfter && s.isTCP() {
		s.recvKind = sockio.EnableInq(fd)
	}
}

func (s *stream) isTCP() bool {
	_, ok := s.conn.(*net.TCPConn)
	return ok && s.kind == sockio.Socket
}

// drained reports whether the reader may wait without having met EAGAIN. more
// is what the receive said, which knows of bytes and of a FIN. It does not
// know of a RST that came together with the bytes, and for which no other
// wake-up will come; but after one, no write can have succeeded.
func (s *stream) drained(more bool) bool { return !more && (s.tls != nil || s.alive.Load()) }

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
	case err == syscall.EAGAIN:
		return false
	case err == nil || s.isPtyEnd(err):
		s.peerEOF()
	default:
		s.fail(s.opError("read", err))
	}
	return true // admit says what comes next
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
	s.setGateLocked()
	if s.tls != nil {
		s.sec.peerDone = true
	}
	s.mu.Unlock()
	keepOpen := false
	s.d.timed(func() { keepOpen = s.proto.Load().EOFReceived() })()
	if keepOpen && s.tls != nil {
		s.cfg.log.Warn("strand: returning true from EOFReceived has no effect over TLS", "transport", s)
	}
	if !keepOpen || s.tls != nil || s.noWrite() {
		s.Close()
	}
}

// opError dresses an error of a raw system call as package net does.
func (s *stream) opError(op string, err error) error {
	if _, ok := err.(syscall.Errno); !ok {
		return err
	}
	return &net.OpError{Op: op, Net: s.local.Network(), Source: s.local, Addr: s.remote, Err: os.NewSyscallError(op, err)}
}

// The portable path: any net.Conn, through its own Read.

func (s *stream) readPortable() {
	s.begin()
	size := bufpool.Small
	for {
		for s.admit() {
			size = s.readChunk(size)
		}
		if !s.wantsUpgrade() || !s.doUpgrade() {
			return
		}
	}
}

// readChunk reads once, delivers it, and returns the size to read next: the
// buffer, which is held while waiting, grows and shrinks with what comes.
func (s *stream) readChunk(size int) int {
	buf := bufpool.Get(size)
	defer bufpool.Put(buf)
	n, err := s.readNext(buf.Data)
	s.takeChunk(buf.Data[:n], err)
	switch {
	case n == len(buf.Data):
		return n * 4
	case n < len(buf.Data)/8:
		return bufpool.Small
	}
	return size
}

// readNext is one Read, through TLS if there is TLS.
func (s *stream) readNext(p []byte) (int, error) {
	if s.tls != nil {
		return s.readTLS(p)
	}
	return s.readConn(p, false)
}

// readConn is one Read of a foreign conn. Only pastGate it is allowed while the
// gate is shut: for a handshake, or to discard.
func (s *stream) readConn(p []byte, pastGate bool) (int, error) {
	s.mu.Lock()
	if s.life.phase >= ended || !pastGate && s.gate.Load() {
		s.mu.Unlock()
		return 0, os.ErrDeadlineExceeded
	}
	s.inConn++
	s.mu.Unlock()
	n, err := s.conn.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inConn--
	if s.life.phase < ended {
		s.clearInterruptLocked(err)
	}
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
			data = s.feed(s.proto.Load(), data)
		case err == io.EOF:
			s.peerEOF()
			err = nil
		default:
			s.fail(err)
			err = nil
		}
		s.leave()
	}
	if len(data) > 0 {
		s.plaintextLeft()
	}
}

// ReadTransport

func (s *stream) IsReading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.paused && s.transfer == nil && !s.noRead() && !s.life.isClosing()
}

func (s *stream) PauseReading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused || s.noRead() || s.life.isClosing() {
		return
	}
	s.paused = true
	s.setGateLocked()
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
	s.setGateLocked()
	if s.parked != nil {
		s.wakeReaderLocked()
	}
}
