package strand

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/gostrand/strand/internal/bufpool"
	"github.com/gostrand/strand/internal/sockio"
)

// security is what a connection needs for TLS. The order of the locks is
// encrypt, those of crypto/tls, the stream's.
type security struct {
	// encrypt is held while plaintext becomes ciphertext, so that both have
	// the same order, and while top changes.
	encrypt    sync.Mutex
	encrypting atomic.Int32 // more than 0: it is held for user data

	top      *tlsLayer // the stream's mu; the layer that user data pass through, nil during the first handshake
	up       *upgrade  // the stream's mu; the handshake that runs or is to run
	shaking  bool      // the stream's mu; a handshake computes, and does not wait for the peer
	broken   error     // the stream's mu; output has failed, and the end is still to come
	peerDone bool      // the stream's mu; the peer has said goodbye, or is gone
	saidBye  bool      // the stream's mu; our close_notify is sent, or queued
	userEnd  int64     // the stream's mu; what sent is when all that the user wrote is out
	corked   bool      // the stream's mu; ciphertext is gathered in the backlog, and not counted yet
	answers  int       // the stream's mu; bytes sent in answer to the peer behind a backlog
	answered int64     // the stream's mu; what sent is when the first of them is out
	vec      [4][]byte // the stream's mu; memory for uncork

	// Used by the reader goroutine alone.
	fd       uintptr // the descriptor, inside raw.Read
	dry      bool    // the last receive has left nothing in the kernel
	skipped  bool    // and for that reason the last read of the descriptor was left out
	blocking bool    // the wire has to wait for bytes itself
	pastGate bool    // reading is for a handshake, or to discard
}

// tlsLayer is one TLS session. TLS inside TLS makes several.
type tlsLayer struct {
	set  *tlsSettings
	conn *tls.Conn
	wire *wire
	err  error // the reader's; what reading ended with, to be told after the data before it
}

// recvTLS is recv through TLS: it decrypts until p is full or nothing is left.
func (s *stream) recvTLS(fd uintptr, p []byte) (n int, more bool, err error) {
	l := s.tls
	s.sec.fd, s.sec.dry = fd, false
	for err = l.err; n < len(p) && err == nil; {
		var k int
		k, err = l.conn.Read(p[n:])
		n += k
		if k > 0 && n < len(p) && s.sec.dry && l.wire.below == nil && l.wire.records.one() {
			// crypto/tls has nothing left and the kernel neither: to ask them is
			// spared, as far as it may be.
			s.sec.dry, s.sec.skipped = false, true
			err = errWouldBlock
		}
		if n == 0 && err == errWouldBlock && s.sec.skipped {
			err = nil // what will wake the reader has to come after a real EAGAIN
		}
	}
	if err == errWouldBlock {
		l.wire.records.whole = 0
	}
	switch {
	case err == errWouldBlock && n == 0:
		return 0, false, syscall.EAGAIN
	case err == errWouldBlock:
		return n, false, nil
	case n > 0:
		l.err = err // crypto/tls does not repeat all of them
		return n, true, nil
	}
	if err = l.readError(err); err == io.EOF {
		err = nil
	}
	return 0, true, err
}

// readTLS is a Read through TLS on the portable path.
func (s *stream) readTLS(p []byte) (int, error) {
	n, err := s.tls.conn.Read(p)
	return n, s.tls.readError(err)
}

// readError tells a truncated connection from one that ended with close_notify,
// which crypto/tls does not always do; the wire knows. Unless StrictEOF is set
// both are an end of file (TL-14).
func (l *tlsLayer) readError(err error) error {
	switch {
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return err
	case l.set.strict && (l.wire.eof || err == io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

const (
	maxPlaintext = 16 << 10  // what one record holds
	surePiece    = 1 << 10   // one record even at the beginning, when crypto/tls makes small ones
	fullRecords  = 128 << 10 // when crypto/tls has sent so much, it fills the records
	maxCorked    = 128 << 10 // as much goes out together
)

// writeTLS is Write and WriteLines through TLS.
func (s *stream) writeTLS(bufs ...[]byte) (int, error) {
	size := 0
	for _, b := range bufs {
		size += len(b)
	}
	c := s.sec // set before, and never changed
	c.encrypt.Lock()
	defer c.encrypt.Unlock()
	s.mu.Lock()
	err := s.acceptLocked(size)
	switch {
	case err != nil || size == 0:
		s.mu.Unlock()
		return 0, err
	case c.up != nil:
		for _, b := range bufs {
			c.up.early.Append(b)
		}
		s.flow.add(size)
		s.edgesLocked()
		s.mu.Unlock()
		return size, nil
	}
	top := c.top
	cork := !top.oneRecord(size) && !s.backlogLocked()
	c.corked = cork
	s.mu.Unlock()
	err = s.encryptInto(top, bufs...)
	if cork {
		err = cmp.Or(s.uncork(), err)
	}
	if err != nil {
		return 0, err
	}
	return size, nil
}

// encryptInto sends user data through a layer. The caller holds the lock for
// encrypting. If it fails, the connection is over: crypto/tls is of no use any
// more.
func (s *stream) encryptInto(l *tlsLayer, bufs ...[]byte) error {
	s.sec.encrypting.Add(1)
	err := l.write(bufs)
	s.sec.encrypting.Add(-1)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(err)
	return closedError{s.life.cause}
}

// oneRecord reports whether size bytes will very likely be one record.
func (l *tlsLayer) oneRecord(size int) bool {
	return size <= surePiece || size <= maxPlaintext && l.wire.sent >= fullRecords
}

// uncork sends what was gathered: the records of one Write go out together.
func (s *stream) uncork() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.uncorkLocked()
	s.sec.corked = false
	return err
}

// uncorkLocked sends what was gathered, and goes on gathering if the kernel
// takes it all. What is left is a backlog like any other.
func (s *stream) uncorkLocked() error {
	if !s.sec.corked || s.life.phase >= ended {
		return nil
	}
	for s.out.Len() > 0 {
		bufs := s.out.Bufs(s.sec.vec[:0], len(s.sec.vec))
		n, err := s.sendvLocked(bufs)
		if err != nil {
			return closedError{err}
		}
		s.out.Consume(n)
		if n == 0 {
			s.sec.corked = false
			s.queuedLocked(s.out.Len())
			break
		}
	}
	clear(s.sec.vec[:])
	return nil
}

// write encrypts the pieces, small ones together.
func (l *tlsLayer) write(bufs [][]byte) error {
	if len(bufs) == 1 {
		_, err := l.conn.Write(bufs[0])
		return err
	}
	record := bufpool.Get(maxPlaintext)
	defer bufpool.Put(record)
	n := 0
	for _, b := range bufs {
		for len(b) > 0 {
			k := copy(record.Data[n:maxPlaintext], b)
			b, n = b[k:], n+k
			if n == maxPlaintext {
				if _, err := l.conn.Write(record.Data[:n]); err != nil {
					return err
				}
				n = 0
			}
		}
	}
	_, err := l.conn.Write(record.Data[:n])
	return err
}

// Ending.

// sayGoodbye sends close_notify behind all that was written. The connection is
// closing.
func (s *stream) sayGoodbye() {
	s.sec.encrypt.Lock()
	defer s.sec.encrypt.Unlock()
	s.goodbyeEncrypting()
}

// goodbyeEncrypting is sayGoodbye under the lock for encrypting. tls.Conn's
// own Close is of no use here: it sets a deadline of 5 s.
func (s *stream) goodbyeEncrypting() {
	for l := s.sec.top; l != nil; l = l.wire.below {
		if err := l.conn.CloseWrite(); err != nil && s.cfg.debug {
			s.logInTurn("strand: close_notify failed", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sec.saidBye = true
	s.flushedLocked()
}

// unsentLocked reports whether anything that the user wrote is not out yet: the
// rest of the output is what TLS has to say. A byte that a foreign conn's Write is
// at is not out.
func (s *stream) unsentLocked() bool {
	c := s.sec
	return c.earlyLocked() > 0 || c.encrypting.Load() > 0 || s.sent < c.userEnd
}

// lossLocked is what err, which ends the connection, is told as: after Close
// nothing is lost if all is out that the user wrote.
func (s *stream) lossLocked(err error) error {
	if s.sec != nil && s.life.isClosing() && !s.unsentLocked() {
		return nil
	}
	return err
}

// shutLocked ends the connection, all output being out, or waits for the peer's
// goodbye.
func (s *stream) shutLocked() {
	switch {
	case s.life.failure != nil || s.sec.broken != nil || s.sec.top == nil:
		s.endLocked(s.lossLocked(s.sec.broken))
	case !s.sec.saidBye:
	case s.sec.peerDone:
		s.endLocked(nil)
	case s.life.advance(shutting):
		s.limitsLocked().startShutdown(s.sec.top.set.shutdown)
	}
}

// awaitGoodbye is the reader's part in closing: it decrypts and discards until
// the peer has said goodbye, even if reading was paused. A peer that cannot do
// that any more is gone: if output is lost by that, the writer knows. One that
// complains is not: it may have rejected all that it was sent.
func (s *stream) awaitGoodbye() {
	s.sec.pastGate = true
	for s.tls != nil {
		err := s.discard()
		s.mu.Lock()
		over := s.life.phase >= ended || s.sec.peerDone
		s.mu.Unlock()
		switch {
		case over:
			return
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			s.tls = s.tls.wire.below // of TLS inside TLS, the outer session ends after the inner
		case isFault(err):
			s.fail(err)
			return
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			s.tls = nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sec.peerDone = true
	if s.life.phase == shutting {
		s.endLocked(nil)
	}
}

// isFault reports whether an error of crypto/tls is one of TLS, found here or
// told by the peer in an alert, and not of the connection below.
func isFault(err error) bool {
	var op *net.OpError
	var header tls.RecordHeaderError
	return errors.As(err, &op) && (op.Op == "local error" || op.Op == "remote error") || errors.As(err, &header)
}

// discard reads, waiting, until there is an error.
func (s *stream) discard() (err error) {
	if s.kind == sockio.None {
		buf := bufpool.Get(bufpool.Small)
		defer bufpool.Put(buf)
		for err == nil {
			_, err = s.tls.conn.Read(buf.Data)
		}
		return err
	}
	perr := s.poll(func(fd uintptr) bool {
		buf := bufpool.Get(bufpool.Small)
		defer bufpool.Put(buf)
		s.sec.fd = fd
		for err = nil; err == nil || err == errWouldBlock && s.sec.skipped; {
			_, err = s.tls.conn.Read(buf.Data)
		}
		return err != errWouldBlock
	})
	if perr != nil {
		return perr
	}
	return err
}
