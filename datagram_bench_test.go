package strand_test

import (
	"context"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// datagramEcho starts an echo endpoint, and returns n sockets that are
// connected to it.
func datagramEcho(t testing.TB, k datagramKind, n int) []net.Conn {
	t.Helper()
	server, _, err := strand.AttachPacket(context.Background(), k.socket(t), newEchoDatagrams, nil)
	require.NoError(t, err)
	endWith(t, server)
	var conns []net.Conn
	for range n {
		d := net.Dialer{}
		if k.network == "unixgram" {
			d.LocalAddr = &net.UnixAddr{Name: k.address(t), Net: "unixgram"}
		}
		c, err := d.Dial(k.network, to(server).String())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		conns = append(conns, c)
	}
	return conns
}

// exchange sends one datagram from each socket, and then receives the echoes.
func exchange(t testing.TB, conns []net.Conn, buf []byte) {
	for _, c := range conns {
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkDatagramEcho(b *testing.B) {
	conns := datagramEcho(b, datagramKinds[0], 1)
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		exchange(b, conns, buf)
	}
}

// Sixteen datagrams come at once, as from many clients.
func BenchmarkDatagramEchoBatch(b *testing.B) {
	conns := datagramEcho(b, datagramKinds[0], 16)
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		exchange(b, conns, buf)
	}
}

// Echoing a datagram of a peer just seen allocates nothing, one at a time and
// in batches. (AllocsPerRun counts the allocations of every goroutine.)
func TestDatagramEchoAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates, and makes sync.Pool drop buffers at random")
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("package syscall allocates addresses")
	}
	for _, k := range datagramKinds[:4] {
		t.Run(k.name, func(t *testing.T) {
			for _, n := range []int{1, 8} {
				conns := datagramEcho(t, k, n)
				buf := make([]byte, 64)
				for range 10 {
					exchange(t, conns, buf) // fills pools and caches
				}
				require.Zero(t, testing.AllocsPerRun(500, func() { exchange(t, conns, buf) }), "%d sockets", n)
			}
		})
	}
}
