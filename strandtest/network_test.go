package strandtest

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConnHalfClose(t *testing.T) {
	a, b := Pipe(0)
	_, err := a.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, a.CloseWrite())
	require.NoError(t, a.CloseWrite(), "a second call does nothing")
	require.Equal(t, 5, b.Buffered())
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	_, err = a.Write([]byte("x"))
	require.ErrorIs(t, err, syscall.EPIPE)
	_, err = b.Write([]byte("back"))
	require.NoError(t, err, "the other direction is open")
	require.NoError(t, b.Close())
	got, err = io.ReadAll(a)
	require.NoError(t, err)
	require.Equal(t, "back", string(got))
	require.NoError(t, a.Close())
	require.ErrorIs(t, a.Close(), net.ErrClosed)
}

func TestConnReset(t *testing.T) {
	a, b := Pipe(0)
	_, err := a.Write([]byte("on its way"))
	require.NoError(t, err)
	require.NoError(t, a.Reset())
	buf := make([]byte, 100)
	n, err := b.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "on its way", string(buf[:n]))
	_, err = b.Read(buf)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, err = b.Write(buf)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, err = a.Read(buf)
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestConnCloseWithUnreadInputResets(t *testing.T) {
	a, b := Pipe(0)
	_, err := a.Write([]byte("never read"))
	require.NoError(t, err)
	require.NoError(t, b.Close())
	_, err = a.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestConnWriteToClosed(t *testing.T) {
	a, b := Pipe(0)
	require.NoError(t, b.Close())
	_, err := a.Write([]byte("x"))
	require.ErrorIs(t, err, syscall.EPIPE)
	_, err = a.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
}

func TestConnCapacityAndDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(10)
		start := time.Now()
		require.NoError(t, a.SetDeadline(start.Add(time.Hour)))
		n, err := a.Write(make([]byte, 25))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 10, n, "the buffer holds ten bytes")
		require.Equal(t, time.Hour, time.Since(start))
		_, err = a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, a.SetDeadline(time.Time{}))

		go func() {
			time.Sleep(time.Minute)
			b.SetReadDeadline(time.Unix(1, 0))
		}()
		_, err = b.Read(make([]byte, 10))
		require.NoError(t, err)
		_, err = b.Read(make([]byte, 10))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "a deadline wakes a Read that waits")
		require.NoError(t, a.Close())
		require.ErrorIs(t, a.SetReadDeadline(time.Now()), net.ErrClosed)
	})
}

func TestConnCloseWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := Pipe(1)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := a.Read(make([]byte, 1))
			require.ErrorIs(t, err, net.ErrClosed)
		})
		for range 2 { // one has the turn, one waits for it
			wg.Go(func() {
				_, err := a.Write(make([]byte, 5))
				require.ErrorIs(t, err, net.ErrClosed)
			})
		}
		synctest.Wait()
		a.Close()
		wg.Wait()
	})
}

func TestListener(t *testing.T) {
	ln := Listen(100)
	conn, err := ln.Dial(t.Context())
	require.NoError(t, err)
	accepted, err := ln.Accept()
	require.NoError(t, err)
	require.Equal(t, conn.LocalAddr(), accepted.RemoteAddr())
	require.Equal(t, ln.Addr(), conn.RemoteAddr())
	require.Equal(t, "memory", ln.Addr().Network())
	waiting, err := ln.Dial(t.Context())
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.ErrorIs(t, ln.Close(), net.ErrClosed)
	_, err = waiting.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET, "nobody has accepted it")
	_, err = ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = ln.Dial(t.Context())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestListenerBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := Listen(0)
		for range backlog {
			_, err := ln.Dial(t.Context())
			require.NoError(t, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := ln.Dial(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestPacketPipe(t *testing.T) {
	a, b := PacketPipe(2)
	for range 3 { // the third finds the queue full
		n, err := a.WriteTo([]byte("datagram"), b.LocalAddr())
		require.NoError(t, err)
		require.Equal(t, 8, n)
	}
	_, err := a.WriteTo([]byte("to nobody"), &net.UDPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 9})
	require.NoError(t, err)
	_, err = a.WriteTo(make([]byte, maxDatagram+1), nil)
	require.ErrorIs(t, err, syscall.EMSGSIZE)
	buf := make([]byte, 4)
	for range 2 {
		n, from, err := b.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, "data", string(buf[:n]), "the rest did not fit")
		require.Equal(t, a.LocalAddr(), from)
	}
	require.NoError(t, b.SetReadDeadline(time.Unix(1, 0)))
	_, _, err = b.ReadFrom(buf)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, b.Close())
	require.ErrorIs(t, b.Close(), net.ErrClosed)
	_, _, err = b.ReadFrom(buf)
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = a.WriteTo([]byte("x"), nil)
	require.NoError(t, err, "as over UDP nobody notices")
}

// transfer sends data through a conn with faults and returns what comes out,
// the sizes of the pieces, and the error at the end.
func transfer(f Faults, data []byte) (got []byte, sizes []int, err error) {
	a, b := Pipe(1000)
	faulty := f.Conn(a)
	go func() {
		b.Write(data)
		b.CloseWrite()
	}()
	buf := make([]byte, 4096)
	for {
		n, err := faulty.Read(buf)
		got = append(got, buf[:n]...)
		if n > 0 {
			sizes = append(sizes, n)
		}
		if err != nil {
			faulty.Close()
			b.Close()
			return got, sizes, err
		}
	}
}

func TestFaultsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where the pieces that come in are the same each time
		data := pattern(0, 5000)
		got, sizes, err := transfer(Faults{Chunks: SingleBytes}, data)
		require.Equal(t, io.EOF, err)
		require.Equal(t, data, got)
		require.Len(t, sizes, len(data))

		got, sizes, err = transfer(Faults{Chunks: RandomChunks, Seed: 7}, data)
		require.Equal(t, io.EOF, err)
		require.Equal(t, data, got)
		_, again, _ := transfer(Faults{Chunks: RandomChunks, Seed: 7}, data)
		require.Equal(t, sizes, again, "the same seed makes the same pieces")
		_, other, _ := transfer(Faults{Chunks: RandomChunks, Seed: 8}, data)
		require.NotEqual(t, sizes, other)
	})
}

func TestFaultsEndAtByteN(t *testing.T) {
	data := pattern(0, 5000)
	got, _, err := transfer(Faults{EOFAt: 1234}, data)
	require.Equal(t, io.EOF, err)
	require.Equal(t, data[:1234], got)
	got, _, err = transfer(Faults{ResetAt: 4321, Chunks: RandomChunks}, data)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Equal(t, data[:4321], got)
}

func TestFaultsLatencyAndStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got, _, _ := transfer(Faults{Latency: time.Second}, pattern(0, 1))
		require.Len(t, got, 1)
		require.Equal(t, 2*time.Second, time.Since(start), "a second for the byte, a second for the end of file")
		start = time.Now()
		transfer(Faults{Stall: time.Hour, StallEvery: 1000, Chunks: SingleBytes}, pattern(0, 5000))
		require.Equal(t, 5*time.Hour, time.Since(start))
	})
}

func TestFaultsLatencyIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(0)
		f := Faults{Latency: time.Hour}.Conn(a)
		b.Write([]byte("x"))
		f.SetReadDeadline(time.Now().Add(time.Minute))
		_, err := f.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		f.SetReadDeadline(time.Time{})
		start := time.Now()
		n, err := f.Read(make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, 1, n, "an interrupted Read loses nothing")
		require.Equal(t, 59*time.Minute, time.Since(start))
		b.Write([]byte("y"))
		time.AfterFunc(time.Minute, func() { f.Close() })
		_, err = f.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// TestFaultsDoNotLoseBytes: whatever the pieces, a transport delivers the whole.
func TestFaultsDoNotLoseBytes(t *testing.T) {
	for _, f := range []Faults{
		{Chunks: SingleBytes, PartialWrites: true},
		{Chunks: RandomChunks, ShortWrites: true},
		{Latency: time.Millisecond, PartialWrites: true, ShortWrites: true},
		{Stall: time.Second, StallEvery: 10_000},
	} {
		synctest.Test(t, func(t *testing.T) {
			f.Seed = Seed(t)
			r := new(Recorder)
			ta, _ := PairWith(t, new(Recorder), Check(t, r), &PairOptions{Capacity: 500, FaultsA: f, FaultsB: f})
			for i := range 20 {
				_, err := ta.Write(pattern(i*1000, 1000))
				require.NoError(t, err)
			}
			ta.Close()
			require.NoError(t, r.AwaitLost(t))
			require.Equal(t, pattern(0, 20_000), r.Received())
		})
	}
}

func TestFaultsResetATransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := new(Recorder), new(Recorder)
		ta, _ := PairWith(t, a, b, &PairOptions{FaultsB: Faults{ResetAt: 100}})
		ta.Write(make([]byte, 200))
		require.ErrorIs(t, b.AwaitLost(t), syscall.ECONNRESET)
		require.Len(t, b.Received(), 100)
		require.ErrorIs(t, a.AwaitLost(t), syscall.ECONNRESET)
	})
}

func TestFaultyListener(t *testing.T) {
	inner := Listen(0)
	ln := Faults{EOFAt: 3}.Listener(inner)
	defer ln.Close()
	conn, err := inner.Dial(t.Context())
	require.NoError(t, err)
	conn.Write([]byte("hello"))
	accepted, err := ln.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	got, err := io.ReadAll(accepted)
	require.NoError(t, err)
	require.Equal(t, "hel", string(got))
}

func TestFailAccept(t *testing.T) {
	inner := Listen(0)
	ln := FailAccept(inner, syscall.EMFILE, syscall.ECONNABORTED)
	_, err := inner.Dial(t.Context())
	require.NoError(t, err)
	for _, want := range []error{syscall.EMFILE, syscall.ECONNABORTED} {
		_, err := ln.Accept()
		require.ErrorIs(t, err, want)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
	}
	_, err = ln.Accept()
	require.NoError(t, err)
	require.NoError(t, ln.Close())
}

// sendAll sends the numbers 0 to n-1 with faults and returns what arrives.
func sendAll(t *testing.T, f PacketFaults, n int) (got []byte) {
	a, b := PacketPipe(2 * n)
	faulty := f.PacketConn(a)
	for i := range n {
		_, err := faulty.WriteTo([]byte{byte(i)}, b.LocalAddr())
		require.NoError(t, err)
	}
	require.NoError(t, faulty.Close())
	require.NoError(t, b.SetReadDeadline(time.Unix(1, 0)))
	for len(b.queue) > 0 {
		got = append(got, (<-b.queue).data...)
	}
	return got
}

func TestPacketFaults(t *testing.T) {
	whole := sendAll(t, PacketFaults{}, 100)
	require.Len(t, whole, 100)
	lossy := sendAll(t, PacketFaults{Lose: 0.5, Seed: 1}, 100)
	require.Less(t, len(lossy), 80)
	require.Equal(t, lossy, sendAll(t, PacketFaults{Lose: 0.5, Seed: 1}, 100), "the same seed loses the same ones")
	double := sendAll(t, PacketFaults{Duplicate: 0.5, Seed: 1}, 100)
	require.Greater(t, len(double), 120)
	mixed := sendAll(t, PacketFaults{Reorder: 0.5, Seed: 1}, 100)
	require.Len(t, mixed, 100)
	require.NotEqual(t, whole, mixed)
	for i := range 100 {
		require.Contains(t, mixed, byte(i))
	}
	require.Empty(t, sendAll(t, PacketFaults{Lose: 1}, 100))
}

// TestPairInBothWorlds: the same conversation inside a bubble and outside.
func TestPairInBothWorlds(t *testing.T) {
	talk := func(t *testing.T) {
		a, b := new(Recorder), new(Recorder)
		b.OnData = func(data []byte) { b.Transport().Write(bytes.ToUpper(data)) }
		ta, _ := Pair(t, Check(t, a), Check(t, b))
		ta.Write([]byte("hello"))
		require.Equal(t, "HELLO", string(a.AwaitData(t, 5)))
		ta.Close()
		require.NoError(t, a.AwaitLost(t))
		require.NoError(t, b.AwaitLost(t))
		require.Equal(t, []string{"ConnectionMade", "DataReceived 5", "EOFReceived", "ConnectionLost"}, b.Calls())
	}
	talk(t)
	synctest.Test(t, talk)
}
