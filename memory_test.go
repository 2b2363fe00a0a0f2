package strand_test

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// memoryInUse is what objects and stacks take when there is no garbage, and no
// buffer is pooled: a pool keeps what it has for two collections.
func memoryInUse() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// measure is what each of n connections has added to what was there before.
func measure(n int64, before uint64) int64 { return int64(memoryInUse()-before) / n }

// An idle connection costs one goroutine and no buffer: little memory, even though
// the peer's socket, which is in this process too, is counted with it.
func TestIdleMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector needs memory of its own")
	}
	const conns, size = 300, 1024
	for _, c := range []struct {
		name  string
		tls   *strand.TLSOptions
		limit int64
	}{
		{"tcp", nil, 5 << 10},
		{"tls", serverTLS(), 16 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", newEcho, &strand.ServerOptions{TLS: c.tls})
			require.NoError(t, err)
			t.Cleanup(func() {
				server.AbortClients()
				server.Close()
				waitFor(t, server)
			})
			echoOnce := func() {
				peer, err := net.Dial("tcp", server.Addrs()[0].String())
				require.NoError(t, err)
				t.Cleanup(func() { peer.Close() })
				client := peer
				if c.tls != nil {
					client = clientTLSConn(peer) // garbage soon: the socket stays open
				}
				sent := randomBytes(size)
				_, err = client.Write(sent)
				require.NoError(t, err)
				requireSame(t, sent, readN(t, client, size), "the echo")
			}
			echoOnce() // what is made once is none of the connections'
			goroutines, before := runtime.NumGoroutine(), memoryInUse()
			for range conns {
				echoOnce()
			}
			each, more := measure(conns, before), runtime.NumGoroutine()-goroutines
			for start := time.Now(); (each > c.limit || more > conns) && time.Since(start) < patience; {
				runtime.Gosched() // something is on its way out
				each, more = measure(conns, before), runtime.NumGoroutine()-goroutines
			}
			require.LessOrEqual(t, each, c.limit)
			require.LessOrEqual(t, more, conns) // fewer if one of an earlier test has ended meanwhile
		})
	}
}
