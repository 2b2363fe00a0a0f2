package strand_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// echo is the protocol of the hot path: it sends back what it gets.
type echo struct {
	strand.NopProtocol
	t strand.Transport
}

func newEcho() *echo { return new(echo) }

func (e *echo) ConnectionMade(t strand.Transport) { e.t = t }
func (e *echo) DataReceived(data []byte)          { e.t.Write(data) }
func (e *echo) PauseWriting()                     { e.t.PauseReading() }
func (e *echo) ResumeWriting()                    { e.t.ResumeReading() }

// echoServer starts a server over TCP, which ends with the test.
func echoServer(t testing.TB) *strand.Server {
	t.Helper()
	s, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", newEcho, nil)
	require.NoError(t, err)
	endWithTest(t, s)
	return s
}

// roundTrip sends buf and reads it back.
func roundTrip(t testing.TB, c net.Conn, buf []byte) {
	if _, err := c.Write(buf); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkEcho(b *testing.B) {
	c := dial(b, echoServer(b).Addrs()[0])
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		roundTrip(b, c, buf)
	}
}

// Two ends that are transports, so that both are measured.
func BenchmarkEchoBetweenTransports(b *testing.B) {
	s := echoServer(b)
	client := &waiter{got: make(chan struct{}, 1)}
	tr, _, err := strand.CreateConnection(context.Background(), "tcp", s.Addrs()[0].String(), func() *waiter { return client }, nil)
	require.NoError(b, err)
	defer tr.Abort()
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		tr.Write(buf)
		for n := 0; n < len(buf); n += client.n {
			<-client.got
		}
	}
}

// waiter tells when data has come.
type waiter struct {
	strand.NopProtocol
	got chan struct{}
	n   int // bytes of the last DataReceived; read after got
}

func (w *waiter) DataReceived(data []byte) {
	w.n = len(data)
	w.got <- struct{}{}
}

// drained is a transport whose peer reads everything.
func drained(b *testing.B) strand.Transport {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(b, err)
	ours, err := ln.Accept()
	require.NoError(b, err)
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(io.Discard, peer)
	}()
	tr, _, err := strand.Attach(context.Background(), ours, newEcho, nil)
	require.NoError(b, err)
	b.Cleanup(func() {
		tr.Abort()
		<-tr.Done()
		peer.Close()
		<-read
	})
	return tr
}

// awaitIdle gives the peer time to read, so that the next write finds room.
func awaitIdle(tr strand.Transport) {
	for tr.WriteBufferSize() > 0 {
		runtime.Gosched()
	}
}

func BenchmarkWriteIdle(b *testing.B) {
	tr := drained(b)
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		tr.Write(buf)
		awaitIdle(tr)
	}
}

func BenchmarkWriteLines(b *testing.B) {
	tr := drained(b)
	lines := [][]byte{make([]byte, 16), make([]byte, 64), make([]byte, 2)}
	b.ReportAllocs()
	for b.Loop() {
		tr.WriteLines(lines...)
		awaitIdle(tr)
	}
}

// CallSoon on an idle connection starts the goroutine that runs the func.
func BenchmarkCallSoonIdle(b *testing.B) {
	tr := drained(b)
	ran := make(chan struct{})
	fn := func() { ran <- struct{}{} }
	b.ReportAllocs()
	for b.Loop() {
		tr.CallSoon(fn)
		<-ran
	}
}

// CallSoon from a callback only queues.
func BenchmarkCallSoonInTurn(b *testing.B) {
	tr := drained(b)
	done := make(chan struct{})
	var fn func()
	b.ReportAllocs()
	fn = func() {
		if b.Loop() {
			tr.CallSoon(fn)
		} else {
			close(done)
		}
	}
	tr.CallSoon(fn)
	<-done
}

// The hot path allocates nothing: not in reading, not in the callback, not in
// the write. (AllocsPerRun counts those of every goroutine.)
func TestEchoAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates, and makes sync.Pool drop buffers at random")
	}
	c := dial(t, echoServer(t).Addrs()[0])
	for _, size := range []int{1, 64, 4096} {
		buf := make([]byte, size)
		roundTrip(t, c, buf) // fills the pools
		require.Zero(t, testing.AllocsPerRun(2000, func() { roundTrip(t, c, buf) }), "%d bytes", size)
	}
}

// So does writing on an idle connection from another goroutine.
func TestWriteAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates, and makes sync.Pool drop buffers at random")
	}
	s := echoServer(t)
	client := &waiter{got: make(chan struct{}, 1)}
	tr, _, err := strand.CreateConnection(context.Background(), "tcp", s.Addrs()[0].String(), func() *waiter { return client }, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		tr.Abort()
		<-tr.Done()
	})
	exchange := func(write func()) func() {
		return func() {
			write()
			for n := 0; n < 16; n += client.n {
				<-client.got
			}
		}
	}
	buf, lines := make([]byte, 16), [][]byte{make([]byte, 8), make([]byte, 8)}
	require.Zero(t, testing.AllocsPerRun(2000, exchange(func() { tr.Write(buf) })), "Write")
	require.Zero(t, testing.AllocsPerRun(2000, exchange(func() { tr.WriteLines(lines...) })), "WriteLines")
}

// A connection that has nothing to do costs one goroutine, its reader.
func TestIdleConnectionCostsOneGoroutine(t *testing.T) {
	const n = 30
	s := echoServer(t)
	buf := make([]byte, 64)
	for range n {
		roundTrip(t, dial(t, s.Addrs()[0]), buf)
	}
	count := goroutines()
	for start := time.Now(); count > n && time.Since(start) < patience; count = goroutines() {
		runtime.Gosched() // a writer may be on its way out, or the end of another test
	}
	require.Equal(t, n, count)
}

// goroutines counts those in which methods of the library's transports run.
func goroutines() (n int) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for one := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if bytes.Contains(one, []byte("/strand.(*stream)")) || bytes.Contains(one, []byte("/strand.(*dispatcher)")) {
			n++
		}
	}
	return n
}
