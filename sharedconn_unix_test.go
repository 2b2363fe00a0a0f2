//go:build unix

package strand

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// lateRaw calls a func when Read has let go of the descriptor.
type lateRaw struct {
	syscall.RawConn
	after func()
}

func (r lateRaw) Read(f func(fd uintptr) bool) error {
	defer r.after()
	return r.RawConn.Read(f)
}

// wantHeld has b, which is not started yet, look at its descriptor when
// RawConn.Read has let go of it but a send would still use it. The returned
// func says what it saw.
func wantHeld(b *base) (seen func() error) {
	b.shared = true
	statted := errors.New("nobody looked")
	b.raw = lateRaw{b.raw, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		var st syscall.Stat_t
		statted = syscall.Fstat(b.fd, &st)
	}}
	return func() error { return statted }
}

// A conn that somebody closes behind the transport's back keeps its descriptor
// as long as Write may use it: the next conn to get the number would get the
// bytes.
func TestDescriptorOfASharedConn(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	cfg, err := new(TransportOptions).resolve()
	require.NoError(t, err)
	s := newStream(conn, cfg)
	seen := wantHeld(&s.base)
	tr, err := start(context.Background(), s, NopProtocol{}, nil)
	require.NoError(t, err)
	conn.Close()
	<-tr.Done()
	require.NoError(t, seen(), "the descriptor is open")
	_, err = tr.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
}

// The same for datagrams.
func TestDescriptorOfASharedPacketConn(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg, err := new(TransportOptions).resolve()
	require.NoError(t, err)
	e := newEndpoint(pc, NopDatagramProtocol{}, cfg)
	seen := wantHeld(&e.base)
	require.NoError(t, e.start(context.Background()))
	pc.Close()
	<-e.Done()
	require.NoError(t, seen(), "the descriptor is open")
	require.ErrorIs(t, e.SendTo(nil, pc.LocalAddr()), net.ErrClosed)
}

// descriptorHandler notes what Write may use while a panic is logged.
type descriptorHandler struct {
	slog.Handler
	s  *stream
	fd int
}

func (h *descriptorHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *descriptorHandler) Handle(context.Context, slog.Record) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.fd = h.s.fd
	return nil
}

// When a panic of a callback is logged, the descriptor of a shared conn is not
// held any more, and the connection has not ended yet.
func TestDescriptorOfASharedConnAfterPanic(t *testing.T) {
	ours, theirs := socketPair(t)
	h := &descriptorHandler{Handler: slog.DiscardHandler}
	opts := TransportOptions{Logger: slog.New(h)}
	cfg, err := opts.resolve()
	require.NoError(t, err)
	s := newStream(ours, cfg)
	s.shared, h.s = true, s
	tr, err := start(context.Background(), s, funcProtocol{data: func() { panic("odd") }}, nil)
	require.NoError(t, err)
	_, err = theirs.Write([]byte("x"))
	require.NoError(t, err)
	<-tr.Done()
	require.Equal(t, -1, h.fd)
}

// funcProtocol calls funcs.
type funcProtocol struct {
	NopProtocol
	made, data func()
}

func (p funcProtocol) ConnectionMade(Transport) {
	if p.made != nil {
		p.made()
	}
}

func (p funcProtocol) DataReceived([]byte) { p.data() }

func socketPair(t testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	theirs, err = net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { theirs.Close() })
	ours, err = ln.Accept()
	require.NoError(t, err)
	return ours, theirs
}

// The reader says that it is awake in every callback that it runs, the first one
// too, and that it waits otherwise: an end that comes from elsewhere wakes it.
func TestReaderSaysWhetherItIsAwake(t *testing.T) {
	ours, theirs := socketPair(t)
	cfg, err := new(TransportOptions).resolve()
	require.NoError(t, err)
	s := newStream(ours, cfg)
	awake := make(chan bool, 2)
	note := func() { awake <- s.isAwake() }
	tr, err := start(context.Background(), s, funcProtocol{made: note, data: note}, nil)
	require.NoError(t, err)
	require.True(t, <-awake, "in ConnectionMade")
	_, err = theirs.Write([]byte("x"))
	require.NoError(t, err)
	require.True(t, <-awake, "in DataReceived")
	for s.isAwake() {
		runtime.Gosched()
	}
	tr.Abort()
	<-tr.Done()
	require.False(t, s.isAwake())
}

// Whoever gives a conn may have kept it.
func TestSharedConns(t *testing.T) {
	newProtocol := func() NopProtocol { return NopProtocol{} }
	server, err := CreateServer(context.Background(), "tcp", "127.0.0.1:0", newProtocol, nil)
	require.NoError(t, err)
	defer server.Shutdown(context.Background())
	address := server.Addrs()[0].String()
	ours, _, err := CreateConnection(context.Background(), "tcp", address, newProtocol, nil)
	require.NoError(t, err)
	defer ours.Abort()
	require.False(t, ours.(*stream).shared)
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	theirs, _, err := Attach(context.Background(), conn, newProtocol, nil)
	require.NoError(t, err)
	defer theirs.Abort()
	require.True(t, theirs.(*stream).shared)
	require.True(t, isForeignListener(struct{ net.Listener }{}))
	require.False(t, isForeignListener(new(net.TCPListener)))
}

func TestSharedPacketConns(t *testing.T) {
	newProtocol := func() NopDatagramProtocol { return NopDatagramProtocol{} }
	ours, _, err := CreateDatagramEndpoint(context.Background(), "udp", "127.0.0.1:0", "", newProtocol, nil)
	require.NoError(t, err)
	require.False(t, ours.(*endpoint).shared)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	theirs, _, err := AttachPacket(context.Background(), pc, newProtocol, nil)
	require.NoError(t, err)
	require.True(t, theirs.(*endpoint).shared)
	for _, tr := range []DatagramTransport{ours, theirs} {
		tr.Abort()
		<-tr.Done()
	}
}
