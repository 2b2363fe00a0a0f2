package strand

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gostrand/strand/internal/bufpool"
	"github.com/gostrand/strand/internal/sendq"
	"github.com/gostrand/strand/internal/sockio"
)

const defaultHandshakeTimeout = 60 * time.Second

// ErrPlaintextPending is the error of an upgrade to TLS that found plaintext
// which the peer had sent already and no callback had been given: somebody may
// have injected it before the encryption began.
var ErrPlaintextPending = errors.New("strand: plaintext received before the TLS handshake")

var (
	errUpgrading = errors.New("strand: StartTLS is already running")
	errPrefix    = badOption("TLSOptions.Prefix is for one connection: Attach and StartTLS")
	errFlood     = errors.New("strand: TLS: the peer asks for answers and does not read them")
)

// TLSOptions turn TLS on in the options of an entry point, or for StartTLS.
// asyncio: the ssl arguments.
type TLSOptions struct {
	// Config is the configuration, which must not be changed afterwards. A
	// client's may be nil: the peer's certificate is verified against the
	// system's roots. A server's must have a certificate, and is used as it
	// is, so that connections share what resumes their sessions. To change
	// certificates later, use its functions, which are called on a
	// connection's goroutine beside its callbacks. Renegotiation is always
	// refused.
	Config *tls.Config

	// ServerName is the name that a client checks the certificate against, and
	// sends. Default: Config.ServerName, then the host connected to. Attach
	// and StartTLS know no host. asyncio: server_hostname.
	ServerName string

	// ServerSide makes this end the server. Attach and StartTLS only.
	ServerSide bool

	// HandshakeTimeout limits the handshake. Default 60 s; negative is an
	// error. asyncio: ssl_handshake_timeout.
	HandshakeTimeout time.Duration

	// ShutdownTimeout is how long Close, after all output is out, waits for
	// the peer's close_notify. Default 30 s; negative is an error. asyncio:
	// ssl_shutdown_timeout.
	ShutdownTimeout time.Duration

	// StrictEOF reports a peer that ends the connection without close_notify,
	// which an attacker can do as well, as io.ErrUnexpectedEOF. Without it
	// that is an end of file like any other, as in asyncio.
	StrictEOF bool

	// Prefix is what of TLS's bytes was received already: the ClientHello
	// that came in one segment with a PROXY header, say. It is copied. Attach
	// and StartTLS only.
	Prefix []byte
}

// tlsSettings are TLSOptions with everything filled in.
type tlsSettings struct {
	config    *tls.Config
	server    bool
	handshake time.Duration
	shutdown  time.Duration
	strict    bool
	prefix    []byte
}

// resolve checks the options of one end. host is what a client connects to, ""
// if that is not known.
func (o *TLSOptions) resolve(server bool, host string) (*tlsSettings, error) {
	if o.HandshakeTimeout < 0 || o.ShutdownTimeout < 0 {
		return nil, badOption("the TLS timeouts must not be negative")
	}
	config := o.Config
	if config == nil {
		config = new(tls.Config)
	}
	switch {
	case !server:
		config = config.Clone()
		config.Renegotiation = tls.RenegotiateNever
		config.ServerName = cmp.Or(o.ServerName, config.ServerName, host)
		if config.ServerName == "" && !config.InsecureSkipVerify {
			return nil, badOption("TLS needs a ServerName to verify, or a Config with InsecureSkipVerify")
		}
	case len(config.Certificates) == 0 && config.GetCertificate == nil && config.GetConfigForClient == nil:
		return nil, badOption("a TLS server needs a certificate in its Config")
	}
	return &tlsSettings{
		config:    config,
		server:    server,
		handshake: orDefault(o.HandshakeTimeout, defaultHandshakeTimeout),
		shutdown:  orDefault(o.ShutdownTimeout, defaultShutdownTimeout),
		strict:    o.StrictEOF,
		prefix:    append([]byte(nil), o.Prefix...),
	}, nil
}

// resolveFor is resolve for a client that connects to address. Nil options are
// no TLS.
func (o *TLSOptions) resolveFor(network, address string) (*tlsSettings, error) {
	if o == nil {
		return nil, nil
	}
	if len(o.Prefix) > 0 {
		return nil, errPrefix
	}
	host := ""
	if network != "unix" {
		host, _, _ = net.SplitHostPort(address) // connecting finds out what is wrong with it
	}
	return o.resolve(false, host)
}

// security is what a connection needs for TLS. The order of the locks is
// encrypt, those of crypto/tls, the stream's.
type security struct {
	// encrypt is held while plaintext becomes ciphertext, so that both have
	// the same order, and while top changes.
	encrypt    sync.Mutex
	encrypting atomic.Bool // it is held for user data

	top      *tlsLayer // the stream's mu; the layer that user data pass through, nil during the first handshake
	up       *upgrade  // the stream's mu; the handshake that runs or is to run
	failed   error     // the stream's mu; why the handshake failed: the end, once the alert is out
	peerDone bool      // the stream's mu; the peer has said goodbye, or is gone
	saidBye  bool      // the stream's mu; our close_notify is sent, or queued
	onlyBye  bool      // the stream's mu; close_notify is all there is to send
	corked   bool      // the stream's mu; ciphertext is gathered in the backlog, and not counted yet
	answers  int       // the stream's mu; bytes sent in answer to the peer while there was a backlog
	vec      [4][]byte // the stream's mu; memory for uncork

	// Used by the reader goroutine alone.
	fd       uintptr // the descriptor, inside raw.Read
	dry      bool    // the last receive has left nothing in the kernel
	skipped  bool    // and for that reason the last read of the descriptor was left out
	blocking bool    // the wire has to wait for bytes itself
	pastGate bool    // reading is for a handshake, or to discard
}

// upgrade is one handshake, wanted or running.
type upgrade struct {
	layer *tlsLayer
	done  func(error)
	limit *time.Timer
	early sendq.Queue // what was written meanwhile, in clear, to be encrypted
	left  bool        // plaintext was left undelivered
}

// tlsLayer is one TLS session. TLS inside TLS makes several.
type tlsLayer struct {
	set  *tlsSettings
	conn *tls.Conn
	wire *wire
	err  error // the reader's; what reading ended with, to be told after the data before it
}

// beginLocked makes a handshake the next thing that the reader does. What
// hinders it from beginning counts as part of it.
func (s *stream) beginLocked(set *tlsSettings, done func(error)) {
	if s.sec == nil {
		s.sec = new(security)
	}
	l := &tlsLayer{set: set, wire: &wire{s: s, below: s.sec.top, prefix: set.prefix}}
	if set.server {
		l.conn = tls.Server(l.wire, set.config)
	} else {
		l.conn = tls.Client(l.wire, set.config)
	}
	up := &upgrade{layer: l, done: done}
	up.limit = time.AfterFunc(set.handshake, func() { s.upgradeTimeout(up) })
	s.sec.up = up
	s.setGateLocked()
}

// wire is the net.Conn that crypto/tls works on. Its Write is the stream's
// transmit, which never blocks and never fails while the connection lives: one
// failed write would poison the tls.Conn. Its Read answers errWouldBlock when
// nothing is there, after which tls.Conn.Read can be called again at any byte;
// Handshake cannot, so that during a handshake Read waits.
type wire struct {
	s      *stream
	below  *tlsLayer // nil: the conn itself
	prefix []byte
	err    error // came with the last bytes; tls.Conn would drop those
	eof    bool  // the conn has ended, properly or not, and tls.Conn was told
	sent   int   // crypto/tls's lock for output; bytes
}

func (w *wire) Read(p []byte) (n int, err error) {
	if len(w.prefix) > 0 {
		n = copy(p, w.prefix)
		w.prefix = w.prefix[n:]
		return n, nil
	}
	if err = w.err; err == nil {
		n, err = w.read(p)
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

func (w *wire) read(p []byte) (int, error) {
	s := w.s
	switch {
	case w.below != nil:
		return w.below.conn.Read(p)
	case s.kind == sockio.None:
		return s.readForeign(p)
	case s.sec.blocking:
		return s.readWaiting(p)
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
	if w.below != nil {
		return w.below.conn.Write(p)
	}
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.phase >= ended {
		return 0, closedError{s.life.cause}
	}
	s.countAnswerLocked(len(p))
	if s.sec.corked {
		s.out.Append(p)
		if s.out.Len() < maxCorked {
			return len(p), nil
		}
		return len(p), s.uncorkLocked()
	}
	return s.transmitLocked(p)
}

func (w *wire) Close() error                   { w.s.Abort(); return nil }
func (w *wire) LocalAddr() net.Addr            { return w.s.local }
func (w *wire) RemoteAddr() net.Addr           { return w.s.remote }
func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }

// maxAnswers is how much crypto/tls may queue by itself behind other output. A
// peer that asks for new keys again and again, and reads nothing, would
// otherwise fill the memory.
const maxAnswers = 16 << 10

// countAnswerLocked counts n bytes that crypto/tls is about to send. What is
// not user data, nor of a handshake, answers the peer.
func (s *stream) countAnswerLocked(n int) {
	c := s.sec
	switch {
	case c.up != nil || c.encrypting.Load():
	case !s.backlogLocked():
		c.answers = n
	default:
		if c.answers += n; c.answers > maxAnswers {
			s.endLocked(errFlood)
		}
	}
}

// errWouldBlock is temporary, as crypto/tls understands it: the session goes on.
var errWouldBlock net.Error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string        { return "strand: nothing to read now" }
func (wouldBlock) Timeout() bool        { return true }
func (wouldBlock) Temporary() bool      { return true }
func (wouldBlock) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// readWaiting is a blocking read on the fast path, for handshakes.
func (s *stream) readWaiting(p []byte) (n int, err error) {
	for {
		perr := s.poll(func(fd uintptr) bool {
			n, _, err = sockio.Recv(s.kind, fd, p)
			return err != syscall.EAGAIN
		})
		switch {
		case s.isOver():
			return 0, s.endError()
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
		}
	}
}

// isOver reports whether the end is decided.
func (s *stream) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life.phase >= ended
}

// Beginning.

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
	return s.upgradingLocked() && s.sec.failed == nil && s.life.phase < ended
}

// earlyLocked is the number of bytes that wait for the end of a handshake.
func (c *security) earlyLocked() int {
	if c.up == nil {
		return 0
	}
	return c.up.early.Len()
}

func (s *stream) upgradeTimeout(up *upgrade) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sec.up == up {
		s.endLocked(&TimeoutError{Op: "handshake", After: up.layer.set.handshake})
	}
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
	err := l.conn.Handshake()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the peer went away in the middle (TL-04)
	}
	if err != nil {
		return fmt.Errorf("strand: TLS handshake: %w", err)
	}
	return nil
}

// install puts the new layer into use: what was written meanwhile goes first.
// It returns false if the connection has ended before.
func (s *stream) install(up *upgrade) bool {
	l := up.layer
	s.sec.encrypt.Lock()
	defer s.sec.encrypt.Unlock()
	s.mu.Lock()
	if s.life.phase >= ended {
		s.mu.Unlock()
		return false
	}
	up.limit.Stop()
	s.tls, s.sec.top, s.sec.up = l, l, nil
	s.setGateLocked()
	goodbye := s.life.phase == closing
	s.mu.Unlock()
	s.sendEarly(up)
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
	s.sec.up.early.Reset()
	if !s.life.advance(closing) {
		s.endLocked(err)
		return
	}
	s.sec.failed = err
	s.limitsLocked().startClose()
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
		s.cfg.log.Debug("strand: TLS handshake failed", "error", cause, "transport", s)
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

// plaintextLeft is called for bytes that were received and not delivered. If
// that is because TLS begins, it must not.
func (s *stream) plaintextLeft() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.upgradingLocked() {
		s.sec.up.left = true
	}
}

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
// that no callback has seen; bytes that the kernel holds are TLS's. A conn of
// the caller's that has no deadlines can only be upgraded from a callback:
// nothing else brings the reader back from its Read.
// The error returned matches net.ErrClosed on a connection that is closing,
// and errors.ErrUnsupported for transports that cannot have TLS. asyncio:
// loop.start_tls.
func StartTLS(t Transport, opts *TLSOptions, done func(error)) error {
	s, ok := t.(*stream)
	if !ok || s.pipe != nil {
		return fmt.Errorf("strand: StartTLS on a %T: %w", t, errors.ErrUnsupported)
	}
	if opts == nil {
		opts = new(TLSOptions)
	}
	set, err := opts.resolve(opts.ServerSide, "")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.life.refusal(s.transfer != nil); err != nil {
		return err
	}
	if s.upgradingLocked() {
		return errUpgrading
	}
	s.beginLocked(set, done)
	s.wakeReaderLocked()
	return nil
}

// StartTLSWait is StartTLS and the wait for its end. It must not be called
// from a callback of t. If ctx ends before the handshake, the connection is
// aborted and the context's cause returned.
func StartTLSWait(ctx context.Context, t Transport, opts *TLSOptions) error {
	done := make(chan error, 1)
	if err := StartTLS(t, opts, func(err error) { done <- err }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if s := t.(*stream); s.wantsUpgrade() {
		s.fail(context.Cause(ctx))
	}
	return <-done
}

// Moving data.

// recvTLS is recv through TLS: it decrypts until p is full or nothing is left.
func (s *stream) recvTLS(fd uintptr, p []byte) (n int, more bool, err error) {
	l := s.tls
	s.sec.fd, s.sec.dry = fd, false
	for err = l.err; n < len(p) && err == nil; {
		var k int
		k, err = l.conn.Read(p[n:])
		n += k
		if n == 0 && err == errWouldBlock && s.sec.skipped {
			err = nil // what will wake the reader has to come after a real EAGAIN
		}
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
	s.sec.encrypting.Store(true)
	err := l.write(bufs)
	s.sec.encrypting.Store(false)
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
	s.mu.Lock()
	s.sec.onlyBye = s.out.Len() == 0
	s.mu.Unlock()
	for l := s.sec.top; l != nil; l = l.wire.below {
		if err := l.conn.CloseWrite(); err != nil && s.cfg.debug {
			s.cfg.log.Debug("strand: close_notify failed", "error", err, "transport", s)
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
	case s.sec.failed != nil || s.sec.top == nil:
		s.endLocked(s.sec.failed)
	case !s.sec.saidBye:
	case s.sec.peerDone:
		s.endLocked(nil)
	case s.life.advance(shutting):
		s.limitsLocked().startShutdown(s.sec.top.set.shutdown)
	}
}

// awaitGoodbye is the reader's part in closing: it decrypts and discards until
// the peer has said goodbye, even if reading was paused.
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
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			s.fail(err)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sec.peerDone = true
	if s.life.phase == shutting {
		s.endLocked(nil)
	}
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

// Asking.

// Cipher is what ExtraInfo(ExtraCipher) returns. asyncio: the triple of
// SSLSocket.cipher.
type Cipher struct {
	Name    string // the cipher suite's name
	Version string // "TLS 1.3", say
	Bits    int    // the length of the secret key
}

// TLSState returns the state of the connection's TLS session, as it was after
// the handshake, and whether there is one. It keeps its answer after the end.
func TLSState(t BaseTransport) (tls.ConnectionState, bool) {
	state, ok := t.ExtraInfo(ExtraSSLObject).(tls.ConnectionState)
	return state, ok
}

func (s *stream) tlsInfo(name string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sec == nil || s.sec.top == nil {
		return nil
	}
	state := s.sec.top.conn.ConnectionState()
	switch name {
	case ExtraSSLContext:
		return s.sec.top.set.config
	case ExtraSSLObject:
		return state
	case ExtraCipher:
		return cipherOf(state)
	}
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	return state.PeerCertificates[0]
}

func cipherOf(state tls.ConnectionState) Cipher {
	c := Cipher{Name: tls.CipherSuiteName(state.CipherSuite), Version: tls.VersionName(state.Version), Bits: 128}
	switch state.CipherSuite {
	case tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256,
		tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		c.Bits = 256
	}
	return c
}
