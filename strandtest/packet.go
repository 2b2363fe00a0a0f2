package strandtest

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxDatagram is the largest datagram, as over UDP and IPv4.
const maxDatagram = 65507

// PacketConn is one end of an in-memory network of two that carries datagrams.
// As over UDP, a datagram is delivered whole or not at all: one that finds the
// other end's queue full, or goes to an address where nobody is, is lost
// without an error. Its addresses are *net.UDPAddrs, of a network that exists
// in documentation only. All methods may be called from any goroutine. Errors are
// *net.OpErrors that match net.ErrClosed, os.ErrDeadlineExceeded or
// syscall.EMSGSIZE.
type PacketConn struct {
	addr   *net.UDPAddr
	peer   *PacketConn
	queue  chan packet
	done   chan struct{} // closed by Close
	once   sync.Once
	rd, wd deadline
}

type packet struct {
	data []byte
	from *net.UDPAddr
}

// PacketPipe returns the two ends of a new in-memory datagram network, each of
// which holds capacity datagrams that were not read yet; zero or negative
// means 64.
func PacketPipe(capacity int) (a, b *PacketConn) {
	if capacity <= 0 {
		capacity = 64
	}
	a, b = newPacketConn("192.0.2.1:1", capacity), newPacketConn("192.0.2.2:2", capacity)
	a.peer, b.peer = b, a
	return a, b
}

func newPacketConn(addr string, capacity int) *PacketConn {
	return &PacketConn{
		addr:  net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)),
		queue: make(chan packet, capacity),
		done:  make(chan struct{}),
	}
}

// ReadFrom reads one datagram, waiting for it. What does not fit p is lost.
func (c *PacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	switch {
	case isClosed(c.done):
		return 0, nil, c.opError("read", net.ErrClosed)
	case c.rd.past():
		return 0, nil, c.opError("read", os.ErrDeadlineExceeded)
	}
	select {
	case got := <-c.queue:
		return copy(p, got.data), got.from, nil
	case <-c.done:
		return 0, nil, c.opError("read", net.ErrClosed)
	case <-c.rd.wait():
		return 0, nil, c.opError("read", os.ErrDeadlineExceeded)
	}
}

// WriteTo sends one datagram, of at most 65,507 bytes. It does not wait and does
// not keep p. A nil addr means the other end.
func (c *PacketConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	switch {
	case isClosed(c.done):
		return 0, c.opError("write", net.ErrClosed)
	case c.wd.past():
		return 0, c.opError("write", os.ErrDeadlineExceeded)
	case len(p) > maxDatagram:
		return 0, c.opError("write", syscall.EMSGSIZE)
	}
	if addr == nil || addr.String() == c.peer.addr.String() {
		c.peer.offer(packet{append([]byte(nil), p...), c.addr})
	}
	return len(p), nil
}

// offer queues a datagram, or loses it.
func (c *PacketConn) offer(p packet) {
	if isClosed(c.done) {
		return
	}
	select {
	case c.queue <- p:
	default:
	}
}

// Close closes this end and wakes whoever waits on it. A second call returns
// an error that matches net.ErrClosed.
func (c *PacketConn) Close() error {
	err := c.opError("close", net.ErrClosed)
	c.once.Do(func() {
		close(c.done)
		err = nil
	})
	return err
}

// LocalAddr returns this end's address, a *net.UDPAddr.
func (c *PacketConn) LocalAddr() net.Addr { return c.addr }

// SetDeadline sets both deadlines.
func (c *PacketConn) SetDeadline(t time.Time) error {
	c.rd.set(t)
	c.wd.set(t)
	return nil
}

// SetReadDeadline sets the deadline of ReadFrom, also of one that waits.
func (c *PacketConn) SetReadDeadline(t time.Time) error { c.rd.set(t); return nil }

// SetWriteDeadline sets the deadline of WriteTo, which never waits.
func (c *PacketConn) SetWriteDeadline(t time.Time) error { c.wd.set(t); return nil }

func (c *PacketConn) opError(op string, err error) error {
	return opError(op, c.addr, nil, err)
}

var _ net.PacketConn = (*PacketConn)(nil)
