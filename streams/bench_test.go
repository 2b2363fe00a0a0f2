package streams_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand/streams"
)

// BenchmarkEcho is a line there and back, over a socket of the system's on the
// client's side. The server is a handler, or bufio on a net.Conn.
func BenchmarkEcho(b *testing.B) {
	b.Run("streams", func(b *testing.B) {
		benchmarkEcho(b, func(b *testing.B, conn net.Conn) {
			r, w, err := streams.Attach(context.Background(), conn, nil)
			require.NoError(b, err)
			defer w.Close()
			for line, err := range r.Lines(context.Background()) {
				if err == nil {
					_, err = w.Write(line)
				}
				require.NoError(b, err)
			}
		})
	})
	b.Run("bufio", func(b *testing.B) {
		benchmarkEcho(b, func(b *testing.B, conn net.Conn) {
			defer conn.Close()
			in := bufio.NewReader(conn)
			for {
				line, err := in.ReadBytes('\n')
				if err == io.EOF {
					return
				}
				if err == nil {
					_, err = conn.Write(line)
				}
				require.NoError(b, err)
			}
		})
	})
}

func benchmarkEcho(b *testing.B, serve func(*testing.B, net.Conn)) {
	ours, peer := tcp.pair(b)
	served := make(chan struct{})
	go func() {
		defer close(served)
		serve(b, ours)
	}()
	line := append(make([]byte, 63), '\n')
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		_, err := peer.Write(line)
		require.NoError(b, err)
		_, err = io.ReadFull(peer, line)
		require.NoError(b, err)
	}
	peer.Close()
	<-served
}

// BenchmarkReceive is how fast bytes come in, by io.Copy to nowhere.
func BenchmarkReceive(b *testing.B) {
	b.Run("streams", func(b *testing.B) {
		ours, peer := tcp.pair(b)
		r, w, err := streams.Attach(context.Background(), ours, nil)
		require.NoError(b, err)
		defer w.Close()
		benchmarkReceive(b, peer, r)
	})
	b.Run("net", func(b *testing.B) {
		ours, peer := tcp.pair(b)
		defer ours.Close()
		benchmarkReceive(b, peer, struct{ io.Reader }{ours})
	})
}

func benchmarkReceive(b *testing.B, peer net.Conn, r io.Reader) {
	const size = 1 << 20
	buf := make([]byte, 64<<10)
	go func() {
		p := make([]byte, 64<<10)
		for {
			if _, err := peer.Write(p); err != nil {
				return
			}
		}
	}()
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for n := 0; n < size; {
			k, err := r.Read(buf[:min(len(buf), size-n)])
			require.NoError(b, err)
			n += k
		}
	}
	peer.Close()
}
