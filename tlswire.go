package strand

import (
	"cmp"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/gostrand/strand/internal/sockio"
)

// wire is the net.Conn that crypto/tls works on. Its Write is the stream's
// transmit, which never blocks and never fails while the connection lives: one
// failed write would poison the tls.Conn. Its Read answers errWouldBlock when
// nothing is there, after which tls.Conn.Read can be called again at any byte;
// Handshake cannot, so that during a handshake Read waits.
type wire struct {
	s       *stream
	below   *tlsLayer // nil: the conn itself
	prefix  []byte
	err     error // came with the last bytes; tls.Conn would drop those
	eof     bool  // the conn has ended, properly or not, and tls.Conn was told
	records recordScan
	sent    int // crypto/tls's lock for output; bytes
}

// recordScan follows the records in what crypto/tls has been given.
type recordScan struct {
	left  int     // of the body of the record at hand
	head  [5]byte // its header, as far as it has come
	have  uint8   // bytes of it
	whole int     // records that crypto/tls may not have opened yet
}

func (r *recordScan) add(p []byte) {
	for len(p) > 0 {
		if r.have < 5 {
			k := copy(r.head[r.have:], p)
			r.have += uint8(k)
			p = p[k:]
			r.left = int(r.head[3])<<8 | int(r.head[4])
		}
		k := min(r.left, len(p))
		r.left -= k
		p = p[k:]
		if r.have == 5 && r.left == 0 {
			r.have = 0
			r.whole++
		}
	}
}

// one reports whether there is one record, and nothing of another.
func (r *recordScan) one() bool { return r.whole == 1 && r.have == 0 }

func (w *wire) Read(p []byte) (n int, err error) {
	n, err = w.next(p)
	w.records.add(p[:n])
	return n, err
}

func (w *wire) next(p []byte) (n int, err error) {
	if len(w.prefix) > 0 {
		n = copy(p, w.prefix)
		w.prefix = w.prefix[n:]
		return n, nil
	}
	if err = w.err; err == nil {
		n, err = w.read(p)
		w.s.countArrived(n) // a record may take longer than IdleTimeout
	}
	if err == io.EOF && w.below == nil {
		err = w.s.endOfInput()
	}
	if n > 0 && err != nil {
		if err != errWouldBlock {
			w.err = err
		}
		return n, nil
	}
	w.eof = w.eof || err == io.EOF || err == io.ErrUnexpectedEOF // the latter from the layer below
	return n, err
}

// endOfInput is io.EOF, or why output is broken: a send may have taken a reset
// from the system that the receive would have told of.
func (s *stream) endOfInput() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.sec.broken, io.EOF)
}

func (w *wire) read(p []byte) (int, error) {
	s := w.s
	switch {
	case w.below != nil:
		return w.below.conn.Read(p)
	case s.sec.blocking:
		return s.readShaking(p)
	case s.kind == sockio.None:
		return s.readForeign(p)
	}
	return s.readReady(p)
}

// readReady is a read of the descriptor without waiting. One that could only
// meet EAGAIN is left out; recvTLS decides what that is worth.
func (s *stream) readReady(p []byte) (int, error) {
	c := s.sec
	if c.skipped = c.dry; c.skipped {
		c.dry = false
		return 0, errWouldBlock
	}
	n, more, err := s.recvPlain(c.fd, p)
	c.dry = n > 0 && !more
	if err == syscall.EAGAIN {
		return 0, errWouldBlock
	}
	return s.asRead(n, err)
}

// asRead makes an io.Reader's result of a receive's.
func (s *stream) asRead(n int, err error) (int, error) {
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, s.opError("read", err)
}

func (w *wire) Write(p []byte) (int, error) {
	w.sent += len(p)
	s := w.s
	if w.below != nil {
		s.sec.inside.Add(1)
		defer s.sec.inside.Add(-1)
		return w.below.conn.Write(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.phase >= ended {
		return 0, closedError{s.life.cause}
	}
	if s.sec.broken != nil {
		return s.unheardLocked(p)
	}
	s.countAnswerLocked(len(p))
	err := s.sendRecordLocked(p)
	if s.sec.broken != nil {
		return s.unheardLocked(p)
	}
	if s.sec.encrypting.Load() > 0 {
		s.sec.userEnd = s.sent + int64(s.out.Len())
	}
	return len(p), err
}

func (w *wire) Close() error                   { w.s.Abort(); return nil }
func (w *wire) LocalAddr() net.Addr            { return w.s.local }
func (w *wire) RemoteAddr() net.Addr           { return w.s.remote }
func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }

// errWouldBlock is temporary, as crypto/tls understands it: the session goes on.
var errWouldBlock net.Error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string        { return "strand: nothing to read now" }
func (wouldBlock) Timeout() bool        { return true }
func (wouldBlock) Temporary() bool      { return true }
func (wouldBlock) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// readShaking is a blocking read for a handshake.
func (s *stream) readShaking(p []byte) (int, error) {
	if !s.shake(false) {
		return 0, s.endError()
	}
	defer s.shake(true)
	if s.kind == sockio.None {
		return s.readForeign(p)
	}
	return s.readWaiting(p)
}

// readWaiting is a blocking read on the fast path, for handshakes.
func (s *stream) readWaiting(p []byte) (n int, err error) {
	for {
		perr := s.poll(func(fd uintptr) bool {
			n, _, err = sockio.Recv(s.kind, fd, p)
			return err != syscall.EAGAIN || s.isAbandoned()
		})
		switch {
		case s.isOver():
			return 0, s.endError()
		case perr == nil && err == syscall.EAGAIN:
			return 0, errWouldBlock // the session below goes on
		case perr == nil:
			return s.asRead(n, err)
		case !errors.Is(perr, os.ErrDeadlineExceeded): // that was a wake-up
			return 0, perr
		}
	}
}

// readForeign is a read of a foreign conn. Only in a handshake it waits until
// there is something.
func (s *stream) readForeign(p []byte) (int, error) {
	for {
		n, err := s.readConn(p, s.sec.pastGate)
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		case n > 0 || !s.sec.blocking:
			return n, errWouldBlock
		case s.isOver():
			return 0, s.endError()
		case s.isAbandoned():
			return 0, errWouldBlock
		}
	}
}

// isOver reports whether the end is decided.
func (s *stream) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life.phase >= ended
}
