package strand

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gostrand/strand/internal/sendq"
)

// ErrPlaintextPending is the error of an upgrade to TLS that found plaintext
// which the peer had sent already and no callback had been given: somebody may
// have injected it before the encryption began.
var ErrPlaintextPending = errors.New("strand: plaintext received before the TLS handshake")

var errUpgrading = errors.New("strand: StartTLS is already running")

// StartTLS makes a plain connection go on as a TLS connection, on the same
// Transport: TLS in the middle, as with STARTTLS, or TLS inside TLS. It does
// not block. It may be called from any goroutine and from inside a callback;
// from the moment of the call no more plaintext is delivered, but to a callback
// that is already on its way when the call comes from elsewhere. What was
// accepted before goes out first, in clear; what is written before the
// handshake is over goes out after it, encrypted.
//
// If StartTLS returns nil, done, which may be nil, is called in turn with the
// callbacks when the handshake is over, or before ConnectionLost if the
// connection ends first. If the handshake failed, the connection ends with the
// same error. It fails with ErrPlaintextPending if the library holds plaintext
// that no callback has seen. Bytes that the kernel holds are TLS's, and so are
// those of the library that follow a Prefix or, to a server, look like a
// ClientHello, whose first byte is 0x16. A conn of the caller's that has no
// deadlines can only be upgraded from a callback: nothing else brings the reader
// back from its Read.
//
// If StartTLS returns an error, nothing has changed, and done is not called. The
// error matches net.ErrClosed on a connection that is closing, ErrWriteAfterEOF
// after WriteEOF, ErrSendfileActive during a Sendfile, and errors.ErrUnsupported
// for transports that cannot have TLS. A second call is an error until the
// handshake is over, and begins TLS inside TLS afterwards. asyncio:
// loop.start_tls.
func StartTLS(t Transport, opts *TLSOptions, done func(error)) error {
	_, err := startTLS(t, opts, done)
	return err
}

func startTLS(t Transport, opts *TLSOptions, done func(error)) (*upgrade, error) {
	s, ok := t.(*stream)
	if !ok || s.pipe != nil {
		return nil, fmt.Errorf("strand: StartTLS on a %T: %w", t, errors.ErrUnsupported)
	}
	if opts == nil {
		opts = new(TLSOptions)
	}
	set, err := opts.resolve(opts.ServerSide, "")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.life.refusal(s.transfer != nil); err != nil {
		return nil, err
	}
	if s.upgradingLocked() {
		return nil, errUpgrading
	}
	s.beginLocked(set, done)
	s.wakeReaderLocked()
	return s.sec.up, nil
}

// StartTLSWait is StartTLS and the wait for its end, whose error it returns. It
// must not be called from a callback of t, which would wait for itself. If ctx
// ends before the handshake is over, the connection ends with the context's
// cause, which is returned. asyncio: loop.start_tls.
func StartTLSWait(ctx context.Context, t Transport, opts *TLSOptions) error {
	done := make(chan error, 1)
	up, err := startTLS(t, opts, func(err error) { done <- err })
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	t.(*stream).giveUp(up, context.Cause(ctx))
	return <-done
}

// upgrade is one handshake, wanted or running.
type upgrade struct {
	layer *tlsLayer
	done  func(error)
	limit *time.Timer
	early sendq.Queue // what was written meanwhile, in clear, to be encrypted
	left  bool        // plaintext was left undelivered

	abandoned bool // the stream's mu; Close came first: only the session below ends in good order
}

// beginLocked makes a handshake the next thing that the reader does. What
// hinders it from beginning counts as part of it.
func (s *stream) beginLocked(set *tlsSettings, done func(error)) {
	if s.sec == nil {
		s.sec = &security{ciphertext: ciphertext{userEnd: s.sent + int64(s.out.Len())}}
	}
	l := &tlsLayer{set: set, wire: &wire{s: s, below: s.sec.top, prefix: set.prefix}}
	if set.server {
		l.conn = tls.Server(l.wire, set.config)
	} else {
		l.conn = tls.Client(l.wire, set.config)
	}
	up := &upgrade{layer: l, done: done}
	up.limit = time.AfterFunc(set.handshake, func() {
		s.giveUp(up, &TimeoutError{Op: "handshake", After: set.handshake})
	})
	s.sec.up = up
	s.setGateLocked()
}

// secure makes TLS the first thing to happen on a new stream.
func (s *stream) secure(set *tlsSettings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLocked(set, nil)
}

// upgradingLocked reports whether a handshake is wanted or running.
func (s *stream) upgradingLocked() bool { return s.sec != nil && s.sec.up != nil }

func (s *stream) wantsUpgrade() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upgradingLocked() && !s.sec.up.abandoned && s.life.failure == nil && s.life.phase < ended
}

// earlyLocked is the number of bytes that wait for the end of a handshake.
func (c *security) earlyLocked() int {
	if c.up == nil {
		return 0
	}
	return c.up.early.Len()
}

// giveUp ends the connection because of cause, unless the handshake is over.
func (s *stream) giveUp(up *upgrade, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sec.up == up {
		s.endLocked(cause)
	}
}

// abandonLocked is Close during the handshake of TLS inside TLS, and reports whether
// nothing waits for its end. Without a session below, the connection ends at once.
func (s *stream) abandonLocked() bool {
	up := s.sec.up
	up.abandoned = up.early.Len() == 0
	if up.abandoned {
		up.limit.Stop()
	}
	return up.abandoned
}

func (s *stream) isAbandoned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sec.up.abandoned
}

// doUpgrade runs the handshake on the reader goroutine and reports whether the
// connection goes on. If not, dropUpgrade is what comes after.
func (s *stream) doUpgrade() bool {
	up := s.sec.up // set before the reader came here, and changed by nobody else
	err := ErrPlaintextPending
	if !up.left {
		err = s.handshake(up.layer)
	}
	if err != nil {
		s.handshakeFailed(err)
		return false
	}
	if !s.install(up) {
		return false
	}
	if up.done != nil {
		s.enter()
		s.d.run(func() { up.done(nil) })
		s.leave()
	}
	return true
}

func (s *stream) handshake(l *tlsLayer) error {
	s.sec.blocking, s.sec.pastGate = true, true
	defer func() { s.sec.blocking, s.sec.pastGate = false, false }()
	s.shake(true)
	err := l.conn.Handshake()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the peer went away in the middle (TL-04)
	}
	if header, ok := err.(tls.RecordHeaderError); ok {
		header.Conn = nil // the wire: the error is kept longer than the descriptor
		err = header
	}
	if err != nil {
		return fmt.Errorf("strand: TLS handshake: %w", err)
	}
	return nil
}

// shake notes whether the handshake computes or waits for the peer, and reports
// whether it may go on. If it computes it may be about to fail, and to tell the
// peer with an alert. That is the first cause then, and not the alert which did
// not get through; so an error of output counts when it is known that the
// handshake has not failed by itself.
func (s *stream) shake(computes bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sec.shaking = computes
	if !computes && s.sec.broken != nil {
		s.endLocked(s.sec.broken)
	}
	return s.life.phase < ended
}

// install puts the new layer into use: what was written meanwhile goes first.
// It returns false if the connection has ended before.
func (s *stream) install(up *upgrade) bool {
	l := up.layer
	s.sec.encrypt.Lock()
	defer s.sec.encrypt.Unlock()
	if !s.shake(false) {
		return false
	}
	s.mu.Lock()
	if s.life.phase >= ended || up.abandoned {
		s.mu.Unlock()
		return false
	}
	up.limit.Stop()
	s.tls, s.sec.top, s.sec.up = l, l, nil
	s.sec.encrypting.Add(1)
	s.setGateLocked()
	goodbye := s.life.phase == closing
	s.mu.Unlock()
	s.sendEarly(up)
	s.sec.encrypting.Add(-1)
	if goodbye {
		s.goodbyeEncrypting()
	}
	return true
}

// sendEarly encrypts what was written during the handshake. The caller holds
// the lock for encrypting.
func (s *stream) sendEarly(up *upgrade) {
	for p := up.early.Head(); p != nil; p = up.early.Head() {
		if s.encryptInto(up.layer, p) != nil {
			up.early.Reset()
			return
		}
		n := len(p)
		up.early.Consume(n)
		s.mu.Lock()
		if s.life.phase < ended {
			s.flow.sub(n)
			s.edgesLocked()
		}
		s.mu.Unlock()
	}
}

// handshakeFailed ends the connection once the alert is out that tells the
// peer why.
func (s *stream) handshakeFailed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	loss, closes := s.lossLocked(err), s.life.phase == closing
	s.sec.up.early.Reset()
	s.sec.shaking = false
	if s.sec.up.abandoned {
		return
	}
	if loss == nil || !s.life.closeFailed(err) {
		s.endLocked(loss)
		return
	}
	if !closes { // by Close, the limit runs already
		s.limitsLocked().startClose()
	}
	s.flushedLocked()
}

// dropUpgrade tells of a handshake that has not come to a good end, for
// whatever reason, at the end of the connection.
func (s *stream) dropUpgrade() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.upgradingLocked() {
		return
	}
	up := s.sec.up
	up.limit.Stop()
	up.early.Reset()
	cause := s.life.cause
	if s.server != nil && !s.life.made && cause != nil { // nil: we have ended it ourselves
		s.server.failedHandshakes.Add(1)
		s.logInTurn("strand: TLS handshake failed", cause)
	}
	if up.done != nil {
		if cause == nil {
			cause = closedError{}
		}
		s.d.post(func() { up.done(cause) })
	}
}

// tlsBegins reports whether StartTLS was called since the gate was looked at:
// from then on nothing is delivered in clear.
func (s *stream) tlsBegins() bool { return s.gate.Load() && s.wantsUpgrade() }

// handshakeRecord is the first byte that a client of TLS sends (RFC 8446,
// section 5.1).
const handshakeRecord = 0x16

// leftOver is called for bytes that were received and not delivered. If that is
// because TLS begins, they are plaintext, which must not be, or else a client's
// that did not wait for us to call StartTLS. What is taken for the latter is
// never delivered as plaintext: it is TLS's, like what the kernel holds.
func (s *stream) leftOver(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.upgradingLocked() {
		return
	}
	up := s.sec.up
	w := up.layer.wire
	if len(w.prefix) > 0 || up.layer.set.server && data[0] == handshakeRecord {
		w.prefix = append(w.prefix, data...)
	} else {
		up.left = true
	}
}
