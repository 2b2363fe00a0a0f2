package conformance

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// receiveChunk is the most a peer receives at once.
const receiveChunk = 65536

// An end is a peer's side of a connection: plain blocking I/O. recv returns at
// least one byte or an endError.
type end interface {
	send(data []byte) error
	recv(limit int) ([]byte, error)
	close() error
}

// endError says how the other side ended.
type endError string

func (e endError) Error() string { return string(e) }

// readEnd reads from any of the three kinds of end.
func readEnd(r io.Reader, limit int, how func(error) string) ([]byte, error) {
	buf := make([]byte, limit)
	for {
		n, err := r.Read(buf)
		switch {
		case n > 0:
			return buf[:n], nil
		case err != nil:
			return nil, endError(how(err))
		}
	}
}

func plainEnd(err error) string {
	if err == io.EOF {
		return "eof"
	}
	return errorName(err)
}

// socketEnd is a connected stream socket.
type socketEnd struct{ conn net.Conn }

func (e *socketEnd) send(data []byte) error {
	_, err := e.conn.Write(data)
	return err
}

func (e *socketEnd) recv(limit int) ([]byte, error) { return readEnd(e.conn, limit, plainEnd) }
func (e *socketEnd) close() error                   { return e.conn.Close() }

func (e *socketEnd) shutdown() error {
	return e.conn.(interface{ CloseWrite() error }).CloseWrite()
}

// reset closes with a RST instead of a FIN.
func (e *socketEnd) reset() error {
	if tcp, ok := e.conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	return e.conn.Close()
}

func (e *socketEnd) setReadTimeout(d time.Duration) error {
	return e.conn.SetReadDeadline(time.Now().Add(d))
}

// fileEnd is the end of a pipe, FIFO or terminal.
type fileEnd struct{ file *os.File }

func (e *fileEnd) send(data []byte) error {
	_, err := e.file.Write(data)
	return err
}

func (e *fileEnd) recv(limit int) ([]byte, error) { return readEnd(e.file, limit, plainEnd) }
func (e *fileEnd) close() error                   { return e.file.Close() }

// tlsEnd is TLS over a socketEnd.
type tlsEnd struct {
	conn *tls.Conn
	raw  *eofConn
}

// eofConn remembers that the peer ended TCP: crypto/tls reports a FIN without
// close_notify as it does one with it.
type eofConn struct {
	net.Conn
	ended atomic.Bool
}

func (c *eofConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF {
		c.ended.Store(true)
	}
	return n, err
}

// newTLSEnd shakes hands over lower.
func newTLSEnd(lower *socketEnd, config *tls.Config, server bool) (*tlsEnd, error) {
	raw := &eofConn{Conn: lower.conn}
	conn := tls.Client(raw, config)
	if server {
		conn = tls.Server(raw, config)
	}
	return &tlsEnd{conn, raw}, conn.Handshake()
}

func (e *tlsEnd) send(data []byte) error {
	_, err := e.conn.Write(data)
	return err
}

func (e *tlsEnd) recv(limit int) ([]byte, error) { return readEnd(e.conn, limit, e.howEnded) }

func (e *tlsEnd) howEnded(err error) string {
	switch {
	case err == io.EOF && !e.raw.ended.Load():
		return "close_notify"
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return "eof without close_notify"
	}
	return errorName(err)
}

func (e *tlsEnd) close() error { return e.raw.Close() }
