package strand

import (
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
	inside     atomic.Int32 // more than 0: an inner session's records become an outer one's

	// Guarded by the stream's mu.
	top      *tlsLayer // the layer that user data pass through, nil during the first handshake
	up       *upgrade  // the handshake that runs or is to run
	peerDone bool      // the peer has said goodbye, or is gone
	ciphertext

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
