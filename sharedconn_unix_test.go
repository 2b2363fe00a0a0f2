//go:build unix

package strand

import (
	"context"
	"net"
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
	s.shared = true
	var statted error
	s.raw = lateRaw{s.raw, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		var st syscall.Stat_t
		statted = syscall.Fstat(s.fd, &st)
	}}
	tr, err := start(context.Background(), s, NopProtocol{}, nil)
	require.NoError(t, err)
	conn.Close()
	<-tr.Done()
	require.NoError(t, statted, "the descriptor is open")
	_, err = tr.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
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
