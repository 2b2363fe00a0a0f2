package strandtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// Every transport passes the same cases. They wait more than they compute, and
// so they run beside each other.

func TestTCP(t *testing.T)    { testTransport(t, serverPair("tcp", nil)) }
func TestUnix(t *testing.T)   { testTransport(t, serverPair("unix", nil)) }
func TestMemory(t *testing.T) { testTransport(t, connPair(memoryConns, Faults{})) }
func TestPipes(t *testing.T)  { testTransport(t, osPipePair) }

// The portable path, over conns that are nothing but net.Conns.
func TestForeign(t *testing.T)      { testTransport(t, connPair(foreignConns, Faults{})) }
func TestNetPipe(t *testing.T)      { testTransport(t, connPair(netPipeConns, Faults{})) }
func TestFramed(t *testing.T)       { testTransport(t, connPair(framedConns, Faults{})) }
func TestFaultyMemory(t *testing.T) { testTransport(t, connPair(roomyConns, hardFaults)) }

// TLS over sockets of each sort, and over a conn that is none.
func TestTLSOverTCP(t *testing.T)    { testTransport(t, serverPair("tcp", withTLS)) }
func TestTLSOverUnix(t *testing.T)   { testTransport(t, serverPair("unix", withTLS)) }
func TestTLSOverMemory(t *testing.T) { testTransport(t, tlsPair(memoryConns)) }

func TestSubprocessStdio(t *testing.T) { testTransport(t, relayPair(buildRelay(t))) }

func testTransport(t *testing.T, makePair MakePair) {
	t.Parallel()
	TestTransport(t, makePair)
}

// hardFaults are those that a transport must not let its protocol notice.
var hardFaults = Faults{Chunks: RandomChunks, PartialWrites: true, ShortWrites: true}

// TestMemoryInBubble runs the suite where time is not real: every wait in the
// package and in the library is one that synctest understands.
func TestMemoryInBubble(t *testing.T) {
	t.Parallel()
	for _, tc := range conformanceCases() {
		t.Run(tc.name, func(t *testing.T) {
			for _, mode := range []Chunks{Whole, SingleBytes, RandomChunks} {
				synctest.Test(t, func(t *testing.T) {
					tc.run(newPair(t, mode, connPair(memoryConns, Faults{})))
				})
			}
		})
	}
}

func TestThereAreManyCases(t *testing.T) {
	names := make(map[string]bool)
	for _, tc := range conformanceCases() {
		require.False(t, names[tc.name], "two cases have the name %s", tc.name)
		names[tc.name] = true
	}
	require.GreaterOrEqual(t, len(names), 80)
}

// smallBuffer is what the in-memory network and the kernel are asked to hold.
const smallBuffer = 8 << 10

// connPair attaches both ends of a connection.
func connPair(conns func(t testing.TB) (a, b net.Conn), f Faults) MakePair {
	return func(t testing.TB, a, b strand.Protocol, opts strand.TransportOptions) (ta, tb strand.Transport) {
		ca, cb := conns(t)
		f := f.withSeed(t)
		o := &PairOptions{A: strand.AttachOptions{TransportOptions: opts}, B: strand.AttachOptions{TransportOptions: opts}}
		return attachBoth(t, f.apply(ca), f.apply(cb), a, b, o)
	}
}

func tlsPair(conns func(t testing.TB) (a, b net.Conn)) MakePair {
	return func(t testing.TB, a, b strand.Protocol, opts strand.TransportOptions) (ta, tb strand.Transport) {
		ca, cb := conns(t)
		client, server := cheapTLS()
		o := &PairOptions{
			A: strand.AttachOptions{TransportOptions: opts, TLS: client},
			B: strand.AttachOptions{TransportOptions: opts, TLS: server},
		}
		return attachBoth(t, ca, cb, a, b, o)
	}
}

func memoryConns(t testing.TB) (a, b net.Conn) { return Pipe(smallBuffer) }

// roomyConns are for faults that cut small what there is: the less there is, the
// more pieces there are for the same number of bytes.
func roomyConns(t testing.TB) (a, b net.Conn) { return Pipe(4 * smallBuffer) }

func netPipeConns(t testing.TB) (a, b net.Conn) { return net.Pipe() }

// foreignConns are sockets that do not say so. They are Unix sockets because
// these hold as little as they are told to: here the goroutine that writes may
// be behind, and what is held now may be the kernel's in a moment.
func foreignConns(t testing.TB) (a, b net.Conn) {
	ca, cb := unixConns(t)
	return foreignConn{ca}, foreignConn{cb}
}

type foreignConn struct{ net.Conn }

func (f foreignConn) CloseWrite() error { return f.Conn.(closeWriter).CloseWrite() }

func shrink(t testing.TB, conn any) {
	c := conn.(interface {
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	})
	require.NoError(t, c.SetReadBuffer(smallBuffer))
	require.NoError(t, c.SetWriteBuffer(smallBuffer))
}

// framedConns carry frames, as a websocket does: Close is said in a frame of
// its own, there is no half close, and Read returns what is left of a frame.
func framedConns(t testing.TB) (a, b net.Conn) {
	ca, cb := Pipe(smallBuffer)
	return newFramedConn(ca), newFramedConn(cb)
}

type framedConn struct {
	net.Conn
	r    *bufio.Reader
	left int // bytes left of the frame being read
	mask byte

	mu sync.Mutex // frames go out whole
}

const maxFrame = 4000

func newFramedConn(conn net.Conn) *framedConn {
	return &framedConn{Conn: conn, r: bufio.NewReader(conn)}
}

func (c *framedConn) Read(p []byte) (int, error) {
	for c.left == 0 {
		head, err := c.r.Peek(3) // consumes nothing if the deadline comes
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		c.left, c.mask = int(binary.BigEndian.Uint16(head)), head[2]
		if c.left == 0 {
			return 0, io.EOF
		}
		c.r.Discard(3)
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	for i := range p[:n] {
		p[i] ^= c.mask
	}
	c.left -= n
	return n, err
}

func (c *framedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := 0
	for written < len(p) {
		n := min(len(p)-written, maxFrame)
		frame := binary.BigEndian.AppendUint16(nil, uint16(n))
		frame = append(frame, byte(n))
		for _, b := range p[written : written+n] {
			frame = append(frame, b^byte(n))
		}
		if _, err := c.Conn.Write(frame); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

func (c *framedConn) Close() error {
	if c.mu.TryLock() { // otherwise a Write is in the middle of a frame
		c.Conn.Write([]byte{0, 0, 0})
		c.mu.Unlock()
	}
	return c.Conn.Close()
}

// serverPair connects through the library's own entry points.
func serverPair(network string, secure func(*strand.ConnectOptions, *strand.ServerOptions)) MakePair {
	return func(t testing.TB, a, b strand.Protocol, opts strand.TransportOptions) (ta, tb strand.Transport) {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(shortDir(t), "s")
		}
		made := make(chan strand.Transport, 1)
		co := &strand.ConnectOptions{TransportOptions: opts}
		so := &strand.ServerOptions{TransportOptions: opts}
		if secure != nil {
			secure(co, so)
		}
		s, err := strand.CreateServer(context.Background(), network, address, func() strand.Protocol { return announce(b, made) }, so)
		require.NoError(t, err)
		defer s.Close()
		ta, _, err = strand.CreateConnection(context.Background(), network, s.Addrs()[0].String(), func() strand.Protocol { return a }, co)
		require.NoError(t, err)
		tb = <-made
		shrinkSocket(t, ta)
		shrinkSocket(t, tb)
		return ta, tb
	}
}

func withTLS(co *strand.ConnectOptions, so *strand.ServerOptions) {
	co.TLS, so.TLS = cheapTLS()
}

// cheapTLS is TLSOptions with the key exchange that costs least: there is a
// handshake for every case, and the race detector makes it expensive.
func cheapTLS() (client, server *strand.TLSOptions) {
	client, server = TLSOptions()
	client.Config.CurvePreferences = []tls.CurveID{tls.CurveP256}
	return client, server
}

// shortDir is t.TempDir for Unix sockets, whose paths must be short.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "strand")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// announce returns a protocol that passes on the transport of its
// ConnectionMade, and then steps aside for p.
func announce(p strand.Protocol, made chan<- strand.Transport) strand.Protocol {
	return &announcer{Protocol: p, made: made}
}

type announcer struct {
	strand.Protocol
	made chan<- strand.Transport
}

func (a *announcer) ConnectionMade(t strand.Transport) {
	t.SetProtocol(a.Protocol)
	defer func() { a.made <- t }() // also if p panics
	a.Protocol.ConnectionMade(t)
}

// osPipePair connects two pairs of files crosswise.
func osPipePair(t testing.TB, a, b strand.Protocol, opts strand.TransportOptions) (ta, tb strand.Transport) {
	ra, wb, err := os.Pipe()
	require.NoError(t, err)
	rb, wa, err := os.Pipe()
	require.NoError(t, err)
	o := &strand.PipeOptions{TransportOptions: opts}
	ta, _, err = strand.ConnectPipe(context.Background(), ra, wa, func() strand.Protocol { return a }, o)
	require.NoError(t, err)
	tb, _, err = strand.ConnectPipe(context.Background(), rb, wb, func() strand.Protocol { return b }, o)
	require.NoError(t, err)
	return ta, tb
}

// buildRelay builds the child process of TestSubprocessStdio.
func buildRelay(t *testing.T) string {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the child process has to be built: ", err)
	}
	program := filepath.Join(t.TempDir(), "relay")
	out, err := exec.Command(goCommand, "build", "-o", program, "testdata/relay/main.go").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// relayPair connects a to the standard input and output of a child process,
// which passes everything on to b over a socket, and back.
func relayPair(program string) MakePair {
	return func(t testing.TB, a, b strand.Protocol, opts strand.TransportOptions) (ta, tb strand.Transport) {
		ours, theirs := unixConns(t)
		socket, err := theirs.File()
		require.NoError(t, err)
		theirs.Close()
		outR, inW := startRelay(t, program, socket)
		ta, _, err = strand.ConnectPipe(context.Background(), outR, inW, func() strand.Protocol { return a }, &strand.PipeOptions{TransportOptions: opts})
		require.NoError(t, err)
		tb, _, err = strand.Attach(context.Background(), ours, func() strand.Protocol { return b }, &strand.AttachOptions{TransportOptions: opts})
		require.NoError(t, err)
		return ta, tb
	}
}

// startRelay starts the child and returns our ends of its standard output and
// input.
func startRelay(t testing.TB, program string, socket *os.File) (outR, inW *os.File) {
	inR, inW, err := os.Pipe()
	require.NoError(t, err)
	outR, outW, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command(program)
	cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = inR, outW, []*os.File{socket}
	require.NoError(t, cmd.Start())
	for _, f := range []*os.File{inR, outW, socket} {
		f.Close()
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return outR, inW
}

func unixConns(t testing.TB) (a, b *net.UnixConn) {
	ln, err := net.Listen("unix", filepath.Join(shortDir(t), "s"))
	require.NoError(t, err)
	defer ln.Close()
	ca, err := net.Dial("unix", ln.Addr().String())
	require.NoError(t, err)
	cb, err := ln.Accept()
	require.NoError(t, err)
	shrink(t, ca)
	shrink(t, cb)
	return ca.(*net.UnixConn), cb.(*net.UnixConn)
}
