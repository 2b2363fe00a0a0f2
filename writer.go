package strand

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/gostrand/strand/internal/sockio"
)

// WriteTransport

func (s *stream) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	if s.sec != nil {
		s.mu.Unlock()
		return s.writeTLS(p)
	}
	if err = s.acceptLocked(len(p)); err == nil {
		n, err = s.transmitLocked(p)
	}
	s.mu.Unlock()
	return n, err
}

func (s *stream) WriteLines(bufs ...[]byte) (int, error) {
	size := 0
	for _, b := range bufs {
		size += len(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sec != nil {
		s.mu.Unlock()
		defer s.mu.Lock()
		return s.writeTLS(bufs...)
	}
	if err := s.acceptLocked(size); err != nil || size == 0 {
		return 0, err
	}
	n := 0
	if !s.pendingLocked() {
		var err error
		if n, err = s.sendvLocked(bufs); err != nil {
			return 0, err
		}
	}
	if n < size {
		skip := n
		for _, b := range bufs {
			k := min(skip, len(b))
			skip -= k
			s.out.Append(b[k:])
		}
		s.queuedLocked(size - n)
	}
	return size, nil
}

// acceptLocked decides whether size more bytes are taken. The order of the
// refusals is the reference's (WR-03).
func (s *stream) acceptLocked(size int) error {
	if s.noWrite() {
		return errors.ErrUnsupported
	}
	if err := s.life.refusal(s.transfer != nil); err != nil {
		return err
	}
	if s.cfg.max > 0 && size > 0 && s.flow.size > 0 && s.flow.size+size > s.cfg.max {
		return ErrBufferFull
	}
	return nil
}

// transmitLocked sends p, as far as the kernel takes it, and queues the rest.
func (s *stream) transmitLocked(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !s.backlogLocked() {
		if n, err = s.sendLocked(p); err != nil {
			return 0, err
		}
	}
	if n < len(p) {
		s.out.Append(p[n:])
		s.queuedLocked(len(p) - n)
	}
	return len(p), nil
}

// backlogLocked reports whether output, or the end of it, is on its way: then
// everything new goes behind it. "No backlog and no writer" is decided under
// the lock, before the socket is tried.
func (s *stream) backlogLocked() bool { return s.writing || s.out.Len() > 0 }

// pendingLocked reports whether anything that was accepted is not out yet.
func (s *stream) pendingLocked() bool {
	return s.backlogLocked() || s.sec != nil && s.sec.earlyLocked() > 0
}

// queuedLocked is the one place through which all output passes that the
// kernel has not taken: n bytes were appended to the backlog.
func (s *stream) queuedLocked(n int) {
	s.flow.add(n)
	s.edgesLocked()
	s.startWriterLocked()
}

// sendLocked tries the socket without blocking and returns how much it took.
func (s *stream) sendLocked(p []byte) (int, error) {
	switch {
	case s.kind == sockio.None:
		return 0, nil // only the writer goroutine may block in a foreign conn
	case s.fd >= 0:
		wake := s.wakes.Load()
		n, err := sockio.Send(s.kind, uintptr(s.fd), p)
		return s.triedLocked(wake, n, err)
	}
	return s.sendvLocked([][]byte{p})
}

// sendvLocked is sendLocked for several pieces.
func (s *stream) sendvLocked(bufs [][]byte) (n int, err error) {
	wake := s.wakes.Load()
	switch {
	case s.kind == sockio.None:
		return 0, nil
	case s.fd >= 0: // the reader is inside raw.Read, which keeps the descriptor open
		n, err = sockio.Sendv(s.kind, uintptr(s.fd), bufs)
	default:
		n, err = s.sendvInPollerLocked(bufs)
	}
	return s.triedLocked(wake, n, err)
}

// sendvInPollerLocked is a function of its own for its closure, because of
// which n and err live on the heap.
func (s *stream) sendvInPollerLocked(bufs [][]byte) (n int, err error) {
	ferr := s.wraw.Write(func(fd uintptr) bool {
		n, err = sockio.Sendv(s.kind, fd, bufs)
		return true
	})
	if ferr != nil {
		return 0, ferr
	}
	return n, err
}

// triedLocked takes the outcome of a try: a socket error ends the connection
// and goes to the caller (WR-07). wake is what wakes was before it.
func (s *stream) triedLocked(wake uint32, n int, err error) (int, error) {
	s.sent += int64(n)
	if err == nil {
		s.alive.Store(wake)
		return n, nil
	}
	if err == syscall.EAGAIN {
		return n, nil
	}
	err = s.opError("write", err)
	s.outputFailedLocked(err)
	return 0, err
}

func (s *stream) WriteEOF() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.canWriteEOFLocked():
		return errors.ErrUnsupported
	case s.transfer != nil:
		return ErrSendfileActive
	case s.life.isClosing() || s.life.sending != sendOpen:
		return nil
	case s.noRead():
		s.closeLocked() // the end of a write pipe is the end of it all (WP-07)
		return nil
	}
	s.life.sending = sendEOF
	if s.kind != sockio.None && !s.pendingLocked() {
		return s.sendEOFLocked()
	}
	s.startWriterLocked()
	return nil
}

// closeWriter is the ability to half-close that net.TCPConn, net.UnixConn and
// tls.Conn have.
type closeWriter interface{ CloseWrite() error }

func (s *stream) CanWriteEOF() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.canWriteEOFLocked()
}

func (s *stream) canWriteEOFLocked() bool {
	if s.pipe != nil {
		return s.pipe.canCloseWrite()
	}
	_, ok := s.conn.(closeWriter)
	return ok && s.sec == nil
}

func (s *stream) SetWriteBufferLimits(high, low int) error {
	if s.noWrite() {
		return errors.ErrUnsupported
	}
	return s.base.SetWriteBufferLimits(high, low)
}

func (s *stream) Writable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flow.writable() && s.acceptLocked(0) == nil
}

// What the writer goroutine does.

func (s *stream) writeLoop() {
	if s.kind == sockio.None {
		s.writeUntilOver(s.writeConn)
	} else {
		w := writer{s: s}
		s.writeUntilOver(w.write)
	}
}

// writer is what the writer goroutine of the fast path needs.
type writer struct {
	s    *stream
	bufs [][]byte
}

func (w *writer) write() error { return w.s.wraw.Write(w.onWritable) }

// onWritable sends until the backlog is empty, and returns false to wait for
// room.
func (w *writer) onWritable(fd uintptr) bool {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.life.phase < ended && s.out.Len() > 0 {
		w.bufs = s.out.Bufs(w.bufs[:0], 16)
		n, err := sockio.Sendv(s.kind, fd, w.bufs)
		if n > 0 {
			s.drainedLocked(n)
		}
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			s.outputFailedLocked(s.opError("write", err))
		}
	}
	return true
}

// drainedLocked takes n bytes off the backlog.
func (s *stream) drainedLocked(n int) {
	s.sent += int64(n)
	s.out.Consume(n)
	s.flow.sub(n)
	s.edgesLocked()
	if s.transfer != nil {
		s.transfer.signal()
	}
}

// writeConn writes the first piece of the backlog to a foreign conn. A byte
// counts as buffered until Write has returned.
func (s *stream) writeConn() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.out.Head()
	if s.life.phase >= ended || len(p) == 0 {
		return nil
	}
	n := 0
	err := s.inConnLocked(func() (err error) {
		n, err = s.conn.Write(p)
		return err
	})
	switch {
	case n < 0 || n > len(p):
		return errBadWrite
	case n == 0 && err == nil:
		return io.ErrShortWrite // to go on would be to go round for ever
	case n > 0 && s.life.phase < ended:
		s.drainedLocked(n)
	}
	return err
}

func (s *stream) written(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.life.phase >= ended:
		s.out.Reset()
		return s.writerGoneLocked()
	case errors.Is(err, os.ErrDeadlineExceeded) && s.kind != sockio.None:
		s.conn.SetWriteDeadline(time.Time{}) // somebody else's; it means nothing to us
		return false
	case err != nil && !s.outputFailedLocked(err):
		return false
	case s.out.Len() > 0:
		return false
	case s.life.sending == sendEOF:
		if err := s.sendEOFLocked(); err != nil && s.cfg.debug {
			s.logInTurn("strand: half close failed", err)
		}
		// Nothing is sent after that. Not going back into the conn matters for a
		// pipe, where half of it is closed now.
	}
	gone := s.writerGoneLocked()
	s.flushedLocked()
	return gone
}

// outputFailedLocked ends the connection because output cannot go out, or returns
// true: then there is no output any more, and the error is met later.
func (s *stream) outputFailedLocked(err error) (later bool) {
	if s.sec != nil && s.postponedLocked(err) {
		return true
	}
	s.endLocked(s.lossLocked(err))
	return false
}

// flushedLocked goes on with a graceful close once all output is out: the end,
// or over TLS the wait for the peer's goodbye.
func (s *stream) flushedLocked() {
	switch {
	case s.life.phase != closing || s.pendingLocked():
	case s.sec == nil:
		s.endLocked(nil)
	default:
		s.shutLocked()
	}
}

// writerGoneLocked is base's, and lets a Sendfile that waits for its turn know.
func (s *stream) writerGoneLocked() bool {
	gone := s.base.writerGoneLocked()
	if s.transfer != nil {
		s.transfer.signal()
	}
	return gone
}

// sendEOFLocked closes the sending side. An error of it is not the connection's
// end: the reading side will hear of what is wrong (HC-06).
func (s *stream) sendEOFLocked() error {
	s.life.sending = sendClosed
	if s.kind != sockio.None {
		return s.conn.(closeWriter).CloseWrite()
	}
	return s.inConnLocked(s.halfCloseForeign)
}

// halfCloseForeign is the CloseWrite of a foreign conn. That of a *tls.Conn, which
// the caller made, fails before the handshake, where Read and Write make it.
func (s *stream) halfCloseForeign() error {
	if c, ok := s.conn.(tlsConn); ok {
		if err := c.Handshake(); err != nil {
			return err
		}
	}
	return s.conn.(closeWriter).CloseWrite()
}
