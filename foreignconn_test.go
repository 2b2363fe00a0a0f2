package strand_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// Conns of the caller's whose methods wait, or do what they should not.

// headerConn learns the peer's address from the peer, as the conns of a
// listener for the PROXY protocol do.
type headerConn struct {
	net.Conn
	header <-chan net.Addr
	closed chan struct{}
	once   sync.Once
}

func (c *headerConn) RemoteAddr() net.Addr {
	select {
	case a := <-c.header:
		return a
	case <-c.closed:
		return c.Conn.RemoteAddr()
	}
}

func (c *headerConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// headerListener makes headerConns.
type headerListener struct {
	net.Listener
	headers <-chan chan net.Addr // of each conn
}

func (l headerListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &headerConn{Conn: conn, header: <-l.headers, closed: make(chan struct{})}, nil
}

// A conn may wait in RemoteAddr: that holds up no other connection, and the
// end of the server ends it.
func TestAddressThatHasToArrive(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	silent, told := make(chan net.Addr), make(chan net.Addr, 1)
	address := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5}
	told <- address
	headers := make(chan chan net.Addr, 2)
	headers <- silent
	headers <- told
	r := newRecorder()
	server, err := strand.ServeListener(headerListener{ln, headers}, func() *recorder { return r }, nil)
	require.NoError(t, err)
	for range 2 {
		conn, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
	}
	r.awaitCall(t, "ConnectionMade")
	require.Equal(t, address, r.transport().RemoteAddr())
	require.Equal(t, address, r.transport().ExtraInfo(strand.ExtraPeername))
	require.Len(t, server.Connections(), 2)
	require.NoError(t, server.Shutdown(context.Background()))
	r.wantCalls(t, "one connection was made", "ConnectionMade", "ConnectionLost nil")
}

// noticedConn tells when somebody reads.
type noticedConn struct {
	net.Conn
	reading chan struct{}
	once    sync.Once
}

func (c *noticedConn) Read(p []byte) (int, error) {
	c.once.Do(func() { close(c.reading) })
	return c.Conn.Read(p)
}

// countedTLS is a *tls.Conn with something more.
type countedTLS struct {
	*tls.Conn
	reads atomic.Int64
}

func (c *countedTLS) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(p)
}

// callersTLS are the forms in which a caller may bring a TLS connection.
var callersTLS = map[string]func(c *tls.Conn) net.Conn{
	"itself":   func(c *tls.Conn) net.Conn { return c },
	"embedded": func(c *tls.Conn) net.Conn { return &countedTLS{Conn: c} },
}

// A *tls.Conn that the caller made shakes hands when it is first used. A
// handshake that meets a deadline has failed for good, so that neither
// PauseReading nor Close may wake a Read that is in it.
func TestHandshakeOfTheCallersTLS(t *testing.T) {
	for name, form := range callersTLS {
		t.Run(name, func(t *testing.T) { testHandshakeOfTheCallersTLS(t, form) })
	}
}

func testHandshakeOfTheCallersTLS(t *testing.T, form func(c *tls.Conn) net.Conn) {
	begin := func(t *testing.T) (*recorder, strand.Transport, net.Conn) {
		ours, peer := tcpPair(t)
		conn := &noticedConn{Conn: ours, reading: make(chan struct{})}
		r := newRecorder()
		tr := attach(t, form(tls.Server(conn, serverTLS().Config)), r, nil)
		await(t, "the handshake's first Read", conn.reading)
		return r, tr, clientTLSConn(peer)
	}
	t.Run("PauseReading", func(t *testing.T) {
		r, tr, peer := begin(t)
		tr.PauseReading()
		tr.ResumeReading()
		send(t, peer, "hello")
		r.awaitData(t, 5)
	})
	t.Run("Close", func(t *testing.T) {
		r, tr, peer := begin(t)
		_, err := tr.Write([]byte("bye"))
		require.NoError(t, err)
		tr.Close()
		require.Equal(t, "bye", string(readAll(t, peer)), "what was accepted goes out")
		require.NoError(t, r.awaitLost(t))
	})
	t.Run("Abort", func(t *testing.T) {
		r, tr, _ := begin(t)
		tr.Abort()
		require.NoError(t, r.awaitLost(t))
	})
}

// HC-02: a *tls.Conn that the caller made refuses CloseWrite before its
// handshake. WriteEOF waits for that, whether or not anybody reads.
func TestWriteEOFBeforeHandshake(t *testing.T) {
	for name, form := range callersTLS {
		t.Run(name, func(t *testing.T) { testWriteEOFBeforeHandshake(t, form) })
	}
}

func testWriteEOFBeforeHandshake(t *testing.T, form func(c *tls.Conn) net.Conn) {
	for _, paused := range []bool{false, true} {
		ours, peer := tcpPair(t)
		conn := &noticedConn{Conn: ours, reading: make(chan struct{})}
		r := newRecorder()
		r.onMade = func(tr strand.Transport) {
			if paused {
				tr.PauseReading()
			}
			require.NoError(t, tr.WriteEOF())
		}
		tr := attach(t, form(tls.Server(conn, serverTLS().Config)), r, nil)
		await(t, "the handshake's first Read", conn.reading)
		client := clientTLSConn(peer)
		require.Empty(t, readAll(t, client), "the end, and no error")
		tr.ResumeReading()
		send(t, client, "and you?")
		r.awaitData(t, 8)
		require.False(t, tr.IsClosing())
	}
}

// A handshake that fails ends the connection with its error, which WriteEOF
// cannot return any more (HC-06).
func TestWriteEOFBeforeFailedHandshake(t *testing.T) {
	ours, peer := tcpPair(t)
	r := newRecorder()
	tr := attach(t, tls.Server(ours, serverTLS().Config), r, nil)
	require.NoError(t, tr.WriteEOF())
	send(t, peer, "this is not TLS")
	var broken tls.RecordHeaderError
	require.ErrorAs(t, r.awaitLost(t), &broken)
}

// oddConn has methods that can be replaced.
type oddConn struct {
	net.Conn
	read, write func(p []byte) (int, error)
	close       func() error
}

func (c *oddConn) Read(p []byte) (int, error) {
	if c.read == nil {
		return c.Conn.Read(p)
	}
	return c.read(p)
}

func (c *oddConn) Write(p []byte) (int, error) {
	if c.write == nil {
		return c.Conn.Write(p)
	}
	return c.write(p)
}

func (c *oddConn) Close() error {
	if c.close == nil {
		return c.Conn.Close()
	}
	return errors.Join(c.Conn.Close(), c.close())
}

// Whatever a conn's methods do, the connection ends with an error, once, and
// nothing goes round for ever.
func TestOddConns(t *testing.T) {
	returns := func(n int, err error) func([]byte) (int, error) {
		return func([]byte) (int, error) { return n, err }
	}
	panics := func([]byte) (int, error) { panic("odd") }
	exits := func([]byte) (int, error) { runtime.Goexit(); return 0, nil }
	cases := []struct {
		name string
		conn oddConn
		want error // nil: a *PanicError
	}{
		{"Read of nothing", oddConn{read: returns(0, nil)}, io.ErrNoProgress},
		{"Read that always times out", oddConn{read: returns(0, os.ErrDeadlineExceeded)}, io.ErrNoProgress},
		{"Read of too much", oddConn{read: func(p []byte) (int, error) { return cap(p) + 1, nil }}, nil},
		{"Read panics", oddConn{read: panics}, nil},
		{"Read exits", oddConn{read: exits}, nil},
		{"Write of nothing", oddConn{write: returns(0, nil)}, io.ErrShortWrite},
		{"Write panics", oddConn{write: panics}, nil},
		{"Write exits", oddConn{write: exits}, nil},
		{"Close panics", oddConn{read: returns(0, io.ErrClosedPipe), close: func() error { panic("odd") }}, io.ErrClosedPipe},
		{"Close exits", oddConn{read: returns(0, io.ErrClosedPipe), close: func() error { runtime.Goexit(); return nil }}, io.ErrClosedPipe},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRecorder()
			c.conn.Conn, _ = tcpPair(t)
			r.onMade = func(tr strand.Transport) { tr.Write([]byte("x")) }
			opts := &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}
			tr := attach(t, &c.conn, r, opts)
			await(t, "the end", tr.Done())
			require.Len(t, r.trace(), 2)
			if c.want != nil {
				require.ErrorIs(t, r.awaitLost(t), c.want)
			} else {
				require.Equal(t, "ConnectionLost panic", r.trace()[1])
			}
			require.Zero(t, tr.WriteBufferSize())
		})
	}
	for _, n := range []int{-1, 2} {
		r := newRecorder()
		conn, _ := tcpPair(t)
		tr := attach(t, &oddConn{Conn: conn, write: returns(n, nil)}, r, nil)
		tr.Write([]byte("x"))
		require.ErrorContains(t, r.awaitLost(t), "impossible number of bytes")
	}
}

// deadlineConn gives each Read a deadline of its own.
type deadlineConn struct{ net.Conn }

func (c deadlineConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Timeouts that were waited for are not the mark of a conn that is broken: its
// peer may be silent for long.
func TestSilenceBehindDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		defer peer.Close()
		r := newRecorder()
		attach(t, deadlineConn{ours}, r, nil)
		time.Sleep(time.Hour) // in the bubble
		send(t, peer, "still there")
		r.awaitData(t, 11)
	})
}

// A Write that takes less than it was given, without saying why, is called
// again for the rest.
func TestShortWrites(t *testing.T) {
	conn, peer := tcpPair(t)
	r := newRecorder()
	c := &oddConn{Conn: conn, write: func(p []byte) (int, error) { return conn.Write(p[:1]) }}
	tr := attach(t, c, r, nil)
	_, err := tr.Write([]byte("whole"))
	require.NoError(t, err)
	tr.Close()
	require.Equal(t, "whole", string(readAll(t, peer)))
	require.NoError(t, r.awaitLost(t))
}
