package strand

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// A server that has lost one of several listeners serves on with the others.
func TestOneOfSeveralListenersIsLost(t *testing.T) {
	opts := &ServerOptions{Addresses: []string{"127.0.0.2:0"}}
	opts.Logger = slog.New(slog.DiscardHandler)
	s, err := CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() NopProtocol { return NopProtocol{} }, opts)
	require.NoError(t, err)
	defer s.Shutdown(context.Background())
	addrs := s.Addrs()
	s.mu.Lock()
	first := s.listeners[0].Listener
	s.mu.Unlock()
	require.NoError(t, first.Close())
	for len(s.Addrs()) == len(addrs) {
		runtime.Gosched()
	}
	require.Equal(t, addrs[1:], s.Addrs())
	require.True(t, s.IsServing())
	conn, err := net.Dial("tcp", addrs[1].String())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}
