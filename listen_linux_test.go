package strand

import (
	"context"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// listening is the descriptor of a server's first listener.
func listening(t testing.TB, s *Server) syscall.RawConn {
	t.Helper()
	raw, err := s.listeners[0].Listener.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	return raw
}

// option is an integer socket option.
func option(t testing.TB, raw syscall.RawConn, level, name int) (value int) {
	t.Helper()
	var err error
	require.NoError(t, raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, name) }))
	require.NoError(t, err)
	return value
}

// newTestServer starts a server; the transports of its connections go to made.
func newTestServer(t testing.TB, opts ServerOptions) (s *Server, made chan Transport) {
	t.Helper()
	made = make(chan Transport, 10)
	s, err := CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() *madeProtocol { return &madeProtocol{made: made} }, &opts)
	require.NoError(t, err)
	require.NoError(t, s.StartServing())
	t.Cleanup(func() { require.NoError(t, s.Shutdown(context.Background())) })
	return s, made
}

// bothStarts runs a test with and without DelayStart, whose sockets are made in
// another way.
func bothStarts(t *testing.T, test func(t *testing.T, delay bool)) {
	for name, delay := range map[string]bool{"at once": false, "delayed": true} {
		t.Run(name, func(t *testing.T) { test(t, delay) })
	}
}

// SV-01: the backlog is the kernel's, for which TCP_INFO has a field of another
// name on a socket that listens.
func TestBacklog(t *testing.T) {
	bothStarts(t, func(t *testing.T, delay bool) {
		s, _ := newTestServer(t, ServerOptions{Backlog: 17, DelayStart: delay})
		var info *unix.TCPInfo
		var err error
		require.NoError(t, listening(t, s).Control(func(fd uintptr) {
			info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		}))
		require.NoError(t, err)
		require.Equal(t, 17, int(info.Sacked))
	})
}

// SV-16: the address may be reused, the port only if that is asked for.
func TestListenerOptions(t *testing.T) {
	bothStarts(t, func(t *testing.T, delay bool) {
		s, _ := newTestServer(t, ServerOptions{DelayStart: delay})
		raw := listening(t, s)
		require.Equal(t, 1, option(t, raw, unix.SOL_SOCKET, unix.SO_REUSEADDR))
		require.Equal(t, 0, option(t, raw, unix.SOL_SOCKET, unix.SO_REUSEPORT))
		require.Equal(t, unix.IPPROTO_TCP, option(t, raw, unix.SOL_SOCKET, unix.SO_PROTOCOL), "not MPTCP")
		s, _ = newTestServer(t, ServerOptions{DelayStart: delay, ReusePort: true})
		raw = listening(t, s)
		require.Equal(t, 1, option(t, raw, unix.SOL_SOCKET, unix.SO_REUSEPORT))
	})
}

// SV-16: keep-alive is off unless it is asked for, and TCP_NODELAY is on.
func TestAcceptedOptions(t *testing.T) {
	bothStarts(t, func(t *testing.T, delay bool) {
		for _, keepAlive := range []bool{false, true} {
			s, made := newTestServer(t, ServerOptions{DelayStart: delay, KeepAlive: net.KeepAliveConfig{Enable: keepAlive, Idle: 77e9}})
			raw := accepted(t, s, made)
			want := 0
			if keepAlive {
				want = 1
				require.Equal(t, 77, option(t, raw, unix.SOL_TCP, unix.TCP_KEEPIDLE))
			}
			require.Equal(t, want, option(t, raw, unix.SOL_SOCKET, unix.SO_KEEPALIVE))
			require.Equal(t, 1, option(t, raw, unix.SOL_TCP, unix.TCP_NODELAY))
		}
	})
}

// accepted connects to s and returns the socket on its side.
func accepted(t testing.TB, s *Server, made chan Transport) syscall.RawConn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addrs()[0].String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return (<-made).ExtraInfo(ExtraSocket).(syscall.RawConn)
}

// madeProtocol hands out its transport.
type madeProtocol struct {
	NopProtocol
	made chan Transport
}

func (p *madeProtocol) ConnectionMade(t Transport) { p.made <- t }

// CN-01: a client has the same options as an accepted connection.
func TestClientOptions(t *testing.T) {
	s, _ := newTestServer(t, ServerOptions{})
	for _, keepAlive := range []bool{false, true} {
		opts := &ConnectOptions{KeepAlive: net.KeepAliveConfig{Enable: keepAlive}}
		tr, _, err := CreateConnection(context.Background(), "tcp", s.Addrs()[0].String(), func() NopProtocol { return NopProtocol{} }, opts)
		require.NoError(t, err)
		defer tr.Abort()
		raw := tr.ExtraInfo(ExtraSocket).(syscall.RawConn)
		want := map[bool]int{false: 0, true: 1}[keepAlive]
		require.Equal(t, want, option(t, raw, unix.SOL_SOCKET, unix.SO_KEEPALIVE))
		require.Equal(t, 1, option(t, raw, unix.SOL_TCP, unix.TCP_NODELAY))
	}
}
