package strand

import (
	"net"
	"sync/atomic"
	"syscall"

	"github.com/gostrand/strand/internal/sendq"
	"github.com/gostrand/strand/internal/sockio"
)

// stream is the transport of everything that carries a byte stream: a base,
// with a protocol of that kind, a way to receive (reader.go) and a way to send
// (writer.go), and where they are wanted TLS, a Sendfile, a server, or a
// subprocess that it is a pipe of.
type stream struct {
	base

	// Fixed before the reader starts.
	conn   net.Conn
	wraw   syscall.RawConn // what the writer waits for; base's raw unless a pipe has two files
	kind   sockio.Kind     // None: conn is only used through its methods
	pipe   *pipeConn       // conn, if it is a pipe
	server *Server         // whose connection this is, or nil
	child  *subprocess     // whose pipe this is, or nil

	proto atomic.Pointer[binding]

	// Used by the reader goroutine alone.
	receives uint8       // counted up to inqAfter
	vain     uint8       // Reads of a foreign conn that brought nothing, since the last that did
	recvKind sockio.Kind // how to receive: kind, or TCPInq
	tls      *tlsLayer   // the topmost layer that is in use, nil for a plain connection

	out      sendq.Queue // mu
	transfer *transfer   // mu; the Sendfile in progress
	sec      *security   // mu; everything about TLS, nil before it is wanted

	next, prev *stream // the server's list, under its lock
}

// binding is a protocol with its abilities looked up.
type binding struct {
	Protocol
	buffered BufferedProtocol // nil if it is none
}

func bind(p Protocol) *binding {
	b := &binding{Protocol: p}
	b.buffered, _ = p.(BufferedProtocol)
	return b
}

// tlsConn is what a *tls.Conn of the caller's has, and a type that embeds one.
type tlsConn interface {
	Handshake() error
	NetConn() net.Conn
}

// newStream takes conn over. The caller starts run.
func newStream(conn net.Conn, cfg *config) *stream {
	s := &stream{conn: conn}
	s.owner, s.cfg = s, cfg
	if s.pipe, _ = conn.(*pipeConn); s.pipe != nil {
		s.raw, s.wraw, s.kind = s.pipe.raw, s.pipe.wraw, s.pipe.kind
		s.split = !s.pipe.oneFile()
	} else {
		s.raw, s.kind = sockio.Of(conn)
		s.wraw = s.raw
	}
	s.recvKind = s.kind
	if !s.isForeign() {
		s.local, s.remote = conn.LocalAddr(), conn.RemoteAddr()
	}
	_, s.untimed = conn.(tlsConn)
	s.init()
	s.setGateLocked()
	return s
}

// isForeign reports whether conn is one of which nothing is known but that it
// has methods, any of which may wait.
func (s *stream) isForeign() bool { return s.kind == sockio.None && s.pipe == nil }

// learnAddresses asks a foreign conn for its addresses, on the connection's own
// goroutine: the conns of a listener for the PROXY protocol, say, have to
// receive a header to know them. That counts as being in the conn.
func (s *stream) learnAddresses() {
	if !s.enterConn(true) {
		return
	}
	local, remote := s.conn.LocalAddr(), s.conn.RemoteAddr()
	s.leaveConn(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.local, s.remote = local, remote
}

// owner

func (s *stream) protocol() BaseProtocol { return s.proto.Load() }

// prepare learns the addresses, shakes hands, if the connection begins with TLS,
// and has the server's factory make the protocol.
func (s *stream) prepare() bool {
	if s.isForeign() {
		s.learnAddresses()
	}
	if s.wantsUpgrade() && !s.doUpgrade() {
		return false
	}
	return s.server == nil || s.produce()
}

func (s *stream) connectionMade() {
	p := s.proto.Load()
	if s.cfg.slow > 0 {
		s.d.timed(func() { p.ConnectionMade(s) })()
	} else {
		p.ConnectionMade(s)
	}
}

func (s *stream) heldLocked() (held, busy bool) {
	busy = s.upgradingLocked()
	return busy || s.transfer != nil || s.unwatched(), busy
}

func (s *stream) flushOutputLocked() (pending bool) {
	c := s.sec
	if c == nil {
		return s.pendingLocked()
	}
	return s.unsentLocked() || c.top != nil || c.broken != nil // over TLS there is a goodbye to send
}

func (s *stream) dropOutputLocked() { s.out.Reset() }

func (s *stream) endDecidedLocked() {
	if s.transfer != nil {
		s.transfer.signal()
	}
}

func (s *stream) descriptor() descriptor { return s.conn }

func (s *stream) closeDescriptor() error {
	if c, ok := s.conn.(tlsConn); ok && !s.life.graceful() {
		c.NetConn().Close() // tls.Conn's Close would take up to 5 s to say goodbye
	}
	return s.conn.Close()
}

func (s *stream) winding() { s.dropUpgrade() }

func (s *stream) lostInTurn() {
	if s.child != nil {
		s.child.partGone()
	}
}

func (s *stream) released() {
	if s.server != nil {
		s.server.detach(s)
	}
}

// BaseTransport, where TLS, pipes and a Sendfile have a say.

func (s *stream) Close() error {
	s.mu.Lock()
	goodbye := s.closeLocked()
	s.mu.Unlock()
	if goodbye {
		s.sayGoodbye()
	}
	return nil
}

// closeLocked begins the graceful end. It returns true if the caller, without
// the lock, has to say goodbye over TLS.
func (s *stream) closeLocked() (goodbye bool) {
	if !s.base.closeLocked() {
		return false
	}
	if s.transfer != nil {
		s.transfer.interruptLocked()
	}
	return s.sec != nil && s.sec.top != nil && (s.sec.up == nil || s.abandonLocked())
}

func (s *stream) ExtraInfo(name string) any {
	if s.pipe != nil {
		return s.pipe.extraInfo(name)
	}
	switch name {
	case ExtraSSLContext, ExtraSSLObject, ExtraPeerCert, ExtraCipher:
		return s.tlsInfo(name)
	}
	return s.base.ExtraInfo(name)
}

func (s *stream) IsReading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.paused && s.transfer == nil && !s.noRead() && !s.life.isClosing()
}

func (s *stream) PauseReading() {
	if !s.noRead() {
		s.base.PauseReading()
	}
}

// Transport

func (s *stream) SetProtocol(p Protocol) {
	if isNil(p) {
		panic("strand: SetProtocol(nil)")
	}
	s.proto.Store(bind(p))
}

func (s *stream) Protocol() Protocol { return s.proto.Load().Protocol }

var (
	_ Transport = (*stream)(nil)
	_ owner     = (*stream)(nil)
)
