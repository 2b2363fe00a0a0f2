//go:build linux

package loadgen

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

// A wire carries a connection's bytes, in clear or encrypted, and never waits:
// recv answers errAgain when it has none, send takes what fits.
type wire interface {
	recv(p []byte) (int, error)
	send(p []byte) (int, error)
	// flush answers errAgain while bytes that send has taken wait in memory.
	flush() error
	// drained tells whether a short recv means that nothing more is there.
	drained() bool
	close()
}

// plainWire is the descriptor itself.
type plainWire int

func (w plainWire) recv(p []byte) (int, error) { return recv(int(w), p) }
func (w plainWire) send(p []byte) (int, error) { return send(int(w), p) }
func (plainWire) flush() error                 { return nil }
func (plainWire) drained() bool                { return true }
func (w plainWire) close()                     { syscall.Close(int(w)) }

// tlsWire runs crypto/tls without a goroutine, on a net.Conn that answers
// "temporary error" instead of waiting, which crypto/tls passes on and survives.
type tlsWire struct {
	conn *tls.Conn
	sock *againConn
}

func newTLSWire(fd int) (*tlsWire, error) {
	sock := &againConn{fd: fd, blocking: true, budget: maxChunk}
	// The benchmark measures bytes, not trust: every server makes its own
	// certificate.
	conn := tls.Client(sock, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	sock.blocking = false
	return &tlsWire{conn, sock}, nil
}

func (w *tlsWire) recv(p []byte) (int, error) {
	n, err := w.conn.Read(p)
	if errors.Is(err, errAgain) {
		w.sock.budget = maxChunk // for the next event
		return n, errAgain
	}
	return n, err
}

// send refuses new bytes until the ciphertext of the earlier ones is out, so
// that at most one message waits in memory.
func (w *tlsWire) send(p []byte) (int, error) {
	if err := w.sock.flush(); err != nil {
		return 0, err
	}
	return w.conn.Write(p[:min(len(p), maxSize)])
}

func (w *tlsWire) flush() error { return w.sock.flush() }
func (*tlsWire) drained() bool  { return false }
func (w *tlsWire) close()       { syscall.Close(w.sock.fd) }

// againConn is the net.Conn below tlsWire.
type againConn struct {
	fd       int
	blocking bool   // during the handshake
	budget   int    // bytes that may still be read before the loop gets its turn
	pending  []byte // ciphertext that the kernel has not taken
}

func (c *againConn) Read(p []byte) (int, error) {
	if c.blocking {
		return blockingRead(c.fd, p)
	}
	if c.budget <= 0 {
		return 0, temporary{}
	}
	n, err := recv(c.fd, p)
	if err == errAgain {
		return 0, temporary{}
	}
	if c.budget -= n; n < len(p) {
		c.budget = 0 // another read would only find nothing
	}
	return n, eofIfZero(n, err)
}

func (c *againConn) Write(p []byte) (int, error) {
	if len(c.pending) == 0 {
		n, err := send(c.fd, p)
		if err != nil && err != errAgain {
			return 0, err
		}
		c.pending = append(c.pending, p[n:]...)
		return len(p), nil
	}
	c.pending = append(c.pending, p...)
	return len(p), nil
}

// flush answers errAgain while ciphertext is left.
func (c *againConn) flush() error {
	for len(c.pending) > 0 {
		n, err := send(c.fd, c.pending)
		if err != nil {
			return err
		}
		c.pending = append(c.pending[:0], c.pending[n:]...)
	}
	return nil
}

func (c *againConn) Close() error                     { return nil }
func (c *againConn) LocalAddr() net.Addr              { return nil }
func (c *againConn) RemoteAddr() net.Addr             { return nil }
func (c *againConn) SetDeadline(time.Time) error      { return nil }
func (c *againConn) SetReadDeadline(time.Time) error  { return nil }
func (c *againConn) SetWriteDeadline(time.Time) error { return nil }

// temporary is a net.Error that crypto/tls does not remember as fatal.
type temporary struct{}

func (temporary) Error() string        { return errAgain.Error() }
func (temporary) Timeout() bool        { return true }
func (temporary) Temporary() bool      { return true }
func (temporary) Is(target error) bool { return target == errAgain }
