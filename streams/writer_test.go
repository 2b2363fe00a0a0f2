package streams_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/streams"
)

// SW-01.
func TestWriterIsTheTransports(t *testing.T) {
	s := open(t, tcp, 0)
	require.Equal(t, s.peer.RemoteAddr().String(), s.ExtraInfo(strand.ExtraSockname).(net.Addr).String())
	require.Nil(t, s.ExtraInfo("nonsense"))
	require.True(t, s.CanWriteEOF())
	require.False(t, s.IsClosing())
	n, err := s.Write([]byte("a"))
	require.Equal(t, 1, n)
	require.NoError(t, err)
	n, err = s.WriteLines([]byte("bc"), nil, []byte("d"))
	require.Equal(t, 3, n)
	require.NoError(t, err)
	require.NoError(t, s.WriteEOF())
	_, err = s.Write([]byte("x"))
	require.ErrorIs(t, err, strand.ErrWriteAfterEOF)
	got, err := io.ReadAll(s.peer)
	wantData(t, "abcd")(got, err)
	s.feed("still receiving")
	s.wantRest("still receiving")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.True(t, s.IsClosing())
	require.NoError(t, s.WaitClosed(within(t)))
}

// SW-01: what cannot be done is an error.
func TestWriteEOFUnsupported(t *testing.T) {
	s := open(t, pipe, 0)
	require.False(t, s.CanWriteEOF())
	require.ErrorIs(t, s.WriteEOF(), errors.ErrUnsupported)
}

// SW-02: Drain waits for the low-water mark, and for no more than that.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		require.NoError(t, s.Transport().SetWriteBufferLimits(100, 50))
		_, err := s.Write(make([]byte, 100))
		require.NoError(t, err)
		require.NoError(t, s.Drain(cancelled), "the mark itself is not over it")
		synctest.Wait() // the writer has them in hand
		_, err = s.Write([]byte("x"))
		require.NoError(t, err)
		got := asyncErr(func() error { return s.Drain(context.Background()) })
		synctest.Wait()
		require.Empty(t, got)
		_, err = io.ReadFull(s.peer, make([]byte, 100))
		require.NoError(t, err)
		require.NoError(t, (<-got).err)
		require.Equal(t, 1, s.Transport().WriteBufferSize(), "that is not a flush")
	})
}

// SW-02: the mark counts at once, before PauseWriting has been delivered.
func TestDrainRightAfterWrite(t *testing.T) {
	s := open(t, tcp, 0)
	_, err := s.Write(make([]byte, 16<<20))
	require.NoError(t, err)
	require.Equal(t, context.Canceled, s.Drain(cancelled))
}

// SW-02; test_async_writer_api_exception_after_close.
func TestDrainAfterTheEnd(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		s.Close()
		require.ErrorIs(t, s.Drain(within(t)), net.ErrClosed)
		s.awaitLost()
		for range 2 {
			_, err := s.Write([]byte("data"))
			require.ErrorIs(t, err, net.ErrClosed)
			require.ErrorIs(t, s.Drain(within(t)), net.ErrClosed)
		}
	})
}

// SW-02: a Close that still flushes is not the end. Only a pause is waited for.
func TestDrainWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		_, err := s.Write(make([]byte, 1000))
		require.NoError(t, err)
		s.Close()
		require.NoError(t, s.Drain(context.Background()), "not paused")

		s = open(t, pipe, 0)
		s.fill()
		s.Close()
		got := asyncErr(func() error { return s.Drain(context.Background()) })
		synctest.Wait()
		require.Empty(t, got)
		go io.Copy(io.Discard, s.peer)
		require.NoError(t, (<-got).err)
		s.awaitLost()
	})
}

// SW-02: a transport that takes no more, but is not paused, is not waited for.
func TestDrainWithoutAPause(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		if k.name == pipe.name {
			t.Skip("it has no half close")
		}
		s := open(t, k, 0)
		_, err := s.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, s.WriteEOF())
		require.NoError(t, s.Drain(within(t)))
	})
}

// SW-02: nor is one that is busy with a file.
func TestDrainDuringSendfile(t *testing.T) {
	s := open(t, tcp, 0)
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(64<<20))
	ctx, cancel := context.WithCancel(context.Background())
	sending := asyncErr(func() error { _, err := strand.Sendfile(ctx, s.Transport(), f, 0, 0); return err })
	_, err = io.ReadFull(s.peer, make([]byte, 1))
	require.NoError(t, err)
	_, err = s.Write([]byte("x"))
	require.ErrorIs(t, err, strand.ErrSendfileActive, "the kernel does not take all of it")
	require.NoError(t, s.Drain(within(t)))
	cancel()
	require.ErrorIs(t, await(t, "Sendfile", sending).err, context.Canceled)
}

// SW-02: after WriteEOF a pause is still waited for.
func TestDrainAfterWriteEOF(t *testing.T) {
	s := open(t, tcp, 0)
	s.fill()
	require.NoError(t, s.WriteEOF())
	require.Equal(t, context.Canceled, s.Drain(cancelled))
	drained := asyncErr(func() error { return s.Drain(within(t)) })
	_, err := io.Copy(io.Discard, s.peer)
	require.NoError(t, err)
	require.NoError(t, await(t, "Drain", drained).err)
}

// SW-02: a pipe that is only read from has nothing to drain.
func TestDrainOfAReadPipe(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("pipes cannot be waited for on Windows")
	}
	pr, pw, err := os.Pipe()
	require.NoError(t, err)
	_, p, err := strand.ConnectReadPipe(context.Background(), pr, func() *streams.Protocol { return streams.NewProtocol(0) }, nil)
	require.NoError(t, err)
	require.NoError(t, p.Writer().Drain(within(t)))
	require.NoError(t, pw.Close())
	require.NoError(t, p.Writer().WaitClosed(within(t)))
}

// SW-03; test_multiple_drain.
func TestManyDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		s.fill()
		ctx, cancel := context.WithCancel(context.Background())
		gaveUp := asyncErr(func() error { return s.Drain(ctx) })
		var drains []<-chan outcome
		for range 10 {
			drains = append(drains, asyncErr(func() error { return s.Drain(context.Background()) }))
		}
		synctest.Wait()
		cancel()
		require.Equal(t, context.Canceled, (<-gaveUp).err)
		synctest.Wait()
		for _, d := range drains {
			require.Empty(t, d, "the others go on waiting")
		}
		go io.Copy(io.Discard, s.peer)
		for _, d := range drains {
			require.NoError(t, (<-d).err)
		}
	})
}

// SW-04: a clean end lets blocked Drains return, and later ones fail.
func TestAbortReleasesDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		s.fill()
		drains := []<-chan outcome{
			asyncErr(func() error { return s.Drain(context.Background()) }),
			asyncErr(func() error { return s.Drain(context.Background()) }),
		}
		synctest.Wait()
		s.Transport().Abort()
		for _, d := range drains {
			require.NoError(t, (<-d).err)
		}
		require.ErrorIs(t, s.Drain(context.Background()), net.ErrClosed)
		require.NoError(t, s.WaitClosed(context.Background()))
	})
}

// SW-04: an error is what they return, too.
func TestErrorReleasesDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		s.fill()
		got := asyncErr(func() error { return s.Drain(context.Background()) })
		synctest.Wait()
		require.Empty(t, got)
		s.peer.Close()
		err := (<-got).err
		require.ErrorIs(t, err, io.ErrClosedPipe)
		require.Equal(t, err, s.Err())
		require.Equal(t, err, s.Drain(context.Background()))
		require.Equal(t, err, s.WaitClosed(context.Background()))
	})
}

// SW-05; test_drain_raises: a loop that does not look at Write's errors ends.
func TestWriteAndDrainNoticeTheEnd(t *testing.T) {
	for _, reset := range []bool{false, true} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go func() {
			c, err := ln.Accept()
			if err == nil {
				io.ReadFull(c, make([]byte, 4))
				if reset {
					c.(*net.TCPConn).SetLinger(0)
				}
				c.Close()
			}
			ln.Close()
		}()
		_, w := dial(t, "tcp", ln.Addr().String(), nil)
		for ctx := within(t); err == nil; err = w.Drain(ctx) {
			w.Write([]byte("foo\n"))
		}
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE), err)
	}
}

// SW-05: also if the end is decided, and ConnectionLost has still to wait.
func TestDrainBeforeConnectionLost(t *testing.T) {
	s := open(t, tcp, 0)
	release, running := make(chan struct{}), make(chan struct{})
	defer close(release)
	s.Transport().CallSoon(func() { close(running); <-release })
	await(t, "the callback", running)
	s.Transport().Abort()
	require.ErrorIs(t, s.Drain(context.Background()), net.ErrClosed)
}

// SW-06; test_wait_closed_on_close, test_wait_closed_on_close_with_unread_data,
// test_async_writer_api.
func TestWaitClosed(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		s.feed("unread")
		ctx, cancel := context.WithCancelCause(context.Background())
		why := errors.New("enough")
		cancel(why)
		require.Equal(t, why, s.WaitClosed(ctx), "it closes nothing itself")
		require.False(t, s.IsClosing())
		s.Close()
		for range 2 {
			require.NoError(t, s.WaitClosed(within(t)))
		}
		require.NoError(t, s.WaitClosed(cancelled), "what is there wins")
	})
}

// SW-06, SW-08: the error comes at every call, and the rest is harmless.
func TestWriterAfterReset(t *testing.T) {
	s := open(t, tcp, 0)
	got := async(func() ([]byte, error) { return s.ReadSome(within(t), 1) })
	s.reset()
	require.ErrorIs(t, await(t, "ReadSome", got).err, syscall.ECONNRESET)
	require.True(t, s.IsClosing())
	for range 2 {
		require.ErrorIs(t, s.Drain(within(t)), syscall.ECONNRESET)
		require.ErrorIs(t, s.WaitClosed(within(t)), syscall.ECONNRESET)
		require.NoError(t, s.Close())
		_, err := s.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
}

// SW-07: half-open is the default.
func TestPeerEOFLeavesTheWriter(t *testing.T) {
	for _, k := range []kind{tcp, unix} {
		s := open(t, k, 0)
		s.feedEOF()
		require.True(t, s.AtEOF())
		require.False(t, s.IsClosing())
		_, err := s.Write([]byte("answer"))
		require.NoError(t, err)
		s.Close()
		got, err := io.ReadAll(s.peer)
		wantData(t, "answer")(got, err)
	}
}

// SW-07: over TLS the peer's end is the end, and whoever reads it can see that.
func TestPeerEOFClosesTLS(t *testing.T) {
	closed := false
	p := streams.NewProtocol(0)
	p.ConnectionMade(&fake{secure: true, onClose: func() { closed = !p.Reader().AtEOF() }})
	require.False(t, p.EOFReceived())
	require.True(t, closed, "before the Reader's end")
	require.True(t, p.Reader().AtEOF())
}

// SW-10 with SPEC.md's difference: a stream that nobody refers to stays open,
// because its connection's goroutine keeps it.
func TestDroppedWriterStaysOpen(t *testing.T) {
	ours, peer := tcp.pair(t)
	defer peer.Close()
	dropped := func() weak.Pointer[streams.Writer] {
		_, w, err := streams.Attach(context.Background(), ours, nil)
		require.NoError(t, err)
		return weak.Make(w)
	}()
	runtime.GC()
	runtime.GC() // what the first one has found and finalizers have closed
	w := dropped.Value()
	require.NotNil(t, w)
	require.False(t, w.IsClosing())
	_, err := w.Write([]byte("here"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, w.WaitClosed(within(t)))
	got, err := io.ReadAll(peer)
	wantData(t, "here")(got, err)
}

// test_eof_feed_when_closing_writer.
func TestCloseIsTheReadersEnd(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		s.Close()
		require.NoError(t, s.WaitClosed(within(t)))
		require.True(t, s.AtEOF())
		wantData(t, "")(s.ReadAll(cancelled))
	})
}

// io.Copy to a Writer waits for room, so that a large source does not end up in
// memory.
func TestReadFromDrains(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		want := pattern(2 << 20)
		most := 0
		src := readerFunc(func(p []byte) (int, error) {
			most = max(most, s.Transport().WriteBufferSize())
			if len(want) == 0 {
				return 0, io.EOF
			}
			n := copy(p, want)
			want = want[n:]
			return n, nil
		})
		all := want
		received := async(func() ([]byte, error) { return io.ReadAll(s.peer) })
		n, err := io.Copy(s.Writer, src)
		require.NoError(t, err)
		require.EqualValues(t, len(all), n)
		s.Close()
		o := await(t, "the peer's end of file", received)
		require.NoError(t, o.err)
		require.True(t, bytes.Equal(all, o.data))
		require.LessOrEqual(t, most, 64<<10+1)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestReadFromErrors(t *testing.T) {
	s := open(t, tcp, 0)
	broken := errors.New("broken source")
	n, err := s.ReadFrom(io.MultiReader(strings.NewReader("abc"), readerFunc(func([]byte) (int, error) { return 0, broken })))
	require.EqualValues(t, 3, n)
	require.Equal(t, broken, err)
	s.Close()
	n, err = s.ReadFrom(strings.NewReader("abc"))
	require.Zero(t, n)
	require.ErrorIs(t, err, net.ErrClosed)
}

// A peer that stops reading, and goes away, ends a ReadFrom that waits.
func TestReadFromEndsWithTheConnection(t *testing.T) {
	s := open(t, tcp, 0)
	zeros := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	got := asyncErr(func() error { _, err := s.ReadFrom(zeros); return err })
	s.await("PauseWriting", func() bool { return s.paused })
	s.Transport().Abort()
	require.ErrorIs(t, await(t, "ReadFrom", got).err, net.ErrClosed)
}

// What a stream ends with is what its options say, as for any transport.
func TestOptionsReachTheTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		defer peer.Close()
		opts := &streams.AttachOptions{Limit: 5}
		opts.IdleTimeout = time.Minute
		r, w, err := streams.Attach(context.Background(), ours, opts)
		require.NoError(t, err)
		require.Equal(t, 5, r.Limit())
		_, err = r.ReadSome(context.Background(), 1)
		var timeout *strand.TimeoutError
		require.ErrorAs(t, err, &timeout)
		require.Equal(t, err, w.WaitClosed(context.Background()))
	})
}
