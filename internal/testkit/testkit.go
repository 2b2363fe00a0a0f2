// Package testkit is what the tests of several packages have in common. Nothing
// else uses it.
package testkit

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Patience is how long a test waits for what has to come. It is a bound for a
// broken build, never a measure: no test passes because it ran out.
const Patience = time.Minute

// Await waits for a channel to be closed or to have something.
func Await[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	timeout := time.NewTimer(Patience)
	defer timeout.Stop()
	select {
	case v := <-ch:
		return v
	case <-timeout.C:
		t.Fatalf("never happened: %s", what)
		panic("unreachable")
	}
}

// OwnHost is a loopback address at which no other process listens, its own tests
// among them: there nobody takes a port that a test has given up before the test
// has looked at it again. Most systems have only 127.0.0.1.
func OwnHost() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 64|pid>>16&63, pid>>8&255, pid&255)
}

// SocketPair returns the two ends of a connection, which are closed with the
// test.
func SocketPair(t testing.TB, network, address string) (ours, peer net.Conn) {
	t.Helper()
	ln, err := net.Listen(network, address)
	require.NoError(t, err)
	defer ln.Close()
	peer, err = net.Dial(network, ln.Addr().String())
	require.NoError(t, err)
	ours, err = ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		ours.Close()
		peer.Close()
	})
	return ours, peer
}

// ShortTempDir is t.TempDir for Unix sockets, whose paths must be short.
func ShortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "strand")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// LogBuffer is a buffer that may be written and read at the same time.
type LogBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *LogBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *LogBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Logger returns a logger to the buffer of records of this level and above.
func (l *LogBuffer) Logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}
