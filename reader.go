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

// How a stream receives. The loop around it, and when it may read, is base's
// (loop.go).

func (s *stream) read() {
	if s.raw == nil {
		s.readPortable()
	} else {
		s.readPolled()
	}
	if s.tls != nil {
		s.awaitGoodbye()
	}
}

// over is base's, for a stream that shakes hands when it has stopped reading,
// also to get output out that waits for it, or that watches the reader of its
// pipe.
func (s *stream) over(err error) bool {
	if err != nil && s.readerGone() {
		err = nil
	}
	over := s.base.over(err)
	if s.wantsUpgrade() {
		return !s.doUpgrade()
	}
	return over
}

// receive does one receive and its callback, in turn, and reports whether
// another may find something.
func (s *stream) receive(fd uintptr) bool {
	if s.noRead() {
		return s.watchReader(fd)
	}
	p := s.proto.Load()
	if p.buffered != nil && !s.flow.told {
		return s.receiveInto(p.buffered, fd)
	}
	buf := bufpool.Get(bufpool.Large)
	n, more, err := s.recv(fd, buf.Data)
	if s.gate.Load() || s.proto.Load() != p || s.flow.told && err != syscall.EAGAIN {
		s.receivedLate(buf.Data[:n], err)
		bufpool.Put(buf)
		return true
	}
	if n > 0 {
		s.deliver(p, buf.Data[:n])
	}
	bufpool.Put(buf)
	return s.received(n, err) && (n >= bulk || !s.drained(more))
}

// receivedLate takes the outcome of a receive before which something else comes.
// If somebody has shut the gate meanwhile, or installed another protocol, it may
// not be delivered before reading is allowed again (RD-02), and then to who is
// there (SP-01). If the protocol is pausing, the peer may have what is awaited to
// go out, and this is its answer: the lock waits for a writer that has sent it
// and not said so yet, and ResumeWriting comes first.
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
	s.mu.Lock()
	s.edgesLocked()
	s.mu.Unlock()
	s.leave()
	s.takeChunk(data, err)
	s.enter()
}

// recv is one receive without waiting.
func (s *stream) recv(fd uintptr, p []byte) (n int, more bool, err error) {
	if s.tls != nil {
		return s.recvTLS(fd, p)
	}
	return s.recvPlain(fd, p)
}

// recvPlain is recv of what the kernel has.
func (s *stream) recvPlain(fd uintptr, p []byte) (n int, more bool, err error) {
	n, more, err = sockio.Recv(s.recvKind, fd, p)
	if s.receives < inqAfter {
		s.countReceive(fd)
	}
	return n, more, err
}

// metEAGAIN reports whether a receive through TLS went on until there was
// nothing left.
func (s *stream) metEAGAIN() bool { return s.tls != nil && !s.sec.skipped }

// bulk is the number of bytes after which another receive is tried even if the
// last one has left nothing: while so many were worked on, more are likely to
// have come, and to look is cheaper than to wait.
const bulk = 16 << 10

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
// wake-up will come; but after one, no send can have succeeded: one that began
// after the reader woke is the proof that it was not there by then.
func (s *stream) drained(more bool) bool {
	return !more && (s.metEAGAIN() || s.alive.Load() == s.wakes.Load())
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
	if s.inputOver() && !s.staysOpen() {
		s.Close()
	}
}

// inputOver notes that the peer sends no more, and reports whether the protocol
// is to know.
func (s *stream) inputOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.isClosing() {
		return false
	}
	s.life.sawEOF = true
	s.setGateLocked()
	if s.tls != nil {
		s.sec.peerDone = s.tls.wire.below == nil // or awaitGoodbye goes on to the outer session's
	}
	return true
}

// staysOpen runs EOFReceived and reports whether there is a sending half that
// stays open.
func (s *stream) staysOpen() bool {
	keepOpen := false
	s.d.timed(func() { keepOpen = s.proto.Load().EOFReceived() })()
	if keepOpen && s.tls != nil {
		s.cfg.log.Warn("strand: returning true from EOFReceived has no effect over TLS", "transport", s)
	}
	return keepOpen && s.tls == nil && !s.noWrite()
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
	if !s.enterConn(pastGate) {
		return 0, os.ErrDeadlineExceeded
	}
	if pastGate && s.sec.blocking && s.isAbandoned() { // asked here, where Close finds us
		s.leaveConn(nil)
		return 0, os.ErrDeadlineExceeded
	}
	var start time.Time
	if s.vain > 0 {
		start = time.Now()
	}
	n, err := s.conn.Read(p)
	if s.vain > 0 && time.Since(start) >= minErrorDelay {
		s.vain = 0
	}
	woken := s.leaveConn(err)
	if !woken && s.inVain(n, err) {
		return 0, io.ErrNoProgress
	}
	return n, err
}

// maxInVain is how many Reads of a foreign conn in a row may bring nothing, and
// no error either, as in package bufio.
const maxInVain = 100

// inVain counts the Reads that bring nothing at once, and reports whether there
// were too many: the reader would go round for ever. A timeout that is not our
// wake-up is one of them. One that had to be waited for begins anew: a conn may
// set a deadline for each Read, and its peer be silent for long.
func (s *stream) inVain(n int, err error) bool {
	if n != 0 || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.vain = 0
		return false
	}
	s.vain++
	return s.vain == maxInVain
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
		s.leftOver(data)
	}
}
