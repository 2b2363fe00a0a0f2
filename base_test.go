package strand_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/internal/testkit"
)

// settle gives what is already on its way the time to arrive: some round trips
// over another connection, through the same poller and scheduler. A test that
// says "nothing is delivered" calls it before it looks.
func settle(t testing.TB) {
	t.Helper()
	conn, peer := tcpPair(t)
	r := newRecorder()
	r.onData = func(data []byte) { r.transport().Write(data) }
	tr := attach(t, conn, r, nil)
	b := make([]byte, 1)
	for range 10 {
		_, err := peer.Write(b)
		require.NoError(t, err)
		_, err = io.ReadFull(peer, b)
		require.NoError(t, err)
	}
	tr.Abort()
	await(t, "the end of settling", tr.Done())
}

// closeWrite sends the peer's end of file.
func closeWrite(t testing.TB, peer net.Conn) {
	t.Helper()
	require.NoError(t, peer.(interface{ CloseWrite() error }).CloseWrite())
}

// send writes to the transport from the other end.
func send(t testing.TB, peer net.Conn, data string) {
	t.Helper()
	_, err := io.WriteString(peer, data)
	require.NoError(t, err)
}

// BT-03, BT-04: the life of a connection, over every kind.
func TestLifeInOrder(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		require.Equal(t, []string{"ConnectionMade"}, r.trace(), "the creating call returns after ConnectionMade")
		require.Same(t, tr, r.transport())
		send(t, peer, "hello")
		closeWrite(t, peer)
		require.NoError(t, r.awaitLost(t))
		require.Equal(t, "hello", string(r.received()))
		r.wantCalls(t, "made, data, end of file, lost",
			"ConnectionMade", "DataReceived 5", "EOFReceived", "ConnectionLost nil")
	})
}

// BT-03: what was never made is never lost.
func TestNoLostWithoutMade(t *testing.T) {
	ours, _ := tcpPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := newRecorder()
	_, _, err := strand.Attach(ctx, ours, func() *recorder { return r }, nil)
	require.ErrorIs(t, err, context.Canceled)
	settle(t)
	require.Empty(t, r.trace())
	require.NoError(t, ours.SetDeadline(time.Time{}), "the conn stays open and the caller's")
}

// BT-04: ConnectionMade has the connection's goroutine, not the creating
// call's, and the call waits for it.
func TestMadeRunsOnItsOwnGoroutine(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, _ := k.pair(t)
		r := newRecorder()
		entered, release, created := make(chan struct{}), make(chan struct{}), make(chan strand.Transport)
		var stack []byte
		r.onMade = func(strand.Transport) {
			stack = debug.Stack()
			close(entered)
			<-release
		}
		go func() {
			tr, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, nil)
			assert.NoError(t, err)
			created <- tr
		}()
		await(t, "ConnectionMade", entered)
		select {
		case <-created:
			t.Fatal("Attach returned before ConnectionMade had")
		default:
		}
		close(release)
		tr := await(t, "the return of Attach", created)
		require.NotContains(t, string(stack), "strand.Attach")
		tr.Abort()
		require.NoError(t, r.awaitLost(t))
	})
}

// A context that ends while ConnectionMade blocks releases the creating call,
// and the transport's own context the callback.
func TestAttachContextEndsDuringMade(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, _ := k.pair(t)
		ctx, cancel := context.WithCancel(context.Background())
		r := newRecorder()
		r.onMade = func(tr strand.Transport) {
			cancel()
			<-tr.Context().Done()
		}
		_, _, err := strand.Attach(ctx, ours, func() *recorder { return r }, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "made and lost", "ConnectionMade", "ConnectionLost nil")
	})
}

// BT-05: nothing is read before ConnectionMade has returned. What waited in
// the kernel comes after it.
func TestNothingIsReadBeforeMadeReturned(t *testing.T) {
	ours, peer := net.Pipe()
	defer peer.Close()
	conn := &countingConn{Conn: ours}
	r := newRecorder()
	r.onMade = func(strand.Transport) {
		assert.Zero(t, conn.reads.Load(), "Read was called before ConnectionMade returned")
	}
	attach(t, conn, r, nil)
	send(t, peer, "early")
	r.awaitData(t, 5)
	require.NotZero(t, conn.reads.Load())
}

// countingConn counts the calls of Read.
type countingConn struct {
	net.Conn
	reads atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(p)
}

// BT-06
func TestPauseInMade(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		send(t, peer, "early")
		r := newRecorder()
		r.onMade = func(tr strand.Transport) { tr.PauseReading() }
		tr := attach(t, ours, r, nil)
		settle(t)
		require.Equal(t, []string{"ConnectionMade"}, r.trace(), "nothing is delivered while paused")
		tr.ResumeReading()
		r.awaitData(t, 5)
	})
}

// BT-07
func TestIsClosing(t *testing.T) {
	var during []bool // in data, in EOF, after EOF, in lost
	eachKind(t, func(t *testing.T, k kind) {
		during = nil
		r := newRecorder()
		note := func() { during = append(during, r.transport().IsClosing()) }
		r.onData = func([]byte) { note() }
		r.onEOF = func() bool {
			note()
			assert.True(t, r.transport().CallSoon(note))
			return false
		}
		r.onLost = func(error) { note() }
		tr, peer := connected(t, k, r, nil)
		require.False(t, tr.IsClosing())
		send(t, peer, "x")
		r.awaitData(t, 1)
		closeWrite(t, peer)
		r.awaitLost(t)
		require.Equal(t, []bool{false, false, true, true}, during)
		require.True(t, tr.IsClosing(), "for ever")
	})
}

// BT-07: Close and Abort show at once, inside the very call that comes next.
func TestIsClosingAtOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for name, end := range ends {
			r := newRecorder()
			r.onData = func([]byte) {
				end(r.transport())
				assert.True(t, r.transport().IsClosing(), name)
			}
			_, peer := connected(t, k, r, nil)
			send(t, peer, "x")
			r.awaitLost(t)
		}
	})
}

// ends are the two ways to end a connection oneself.
var ends = map[string]func(strand.Transport){
	"Close": func(tr strand.Transport) { tr.Close() },
	"Abort": func(tr strand.Transport) { tr.Abort() },
}

// BT-08, SP-03: in ConnectionLost the protocol is attached and the server
// counts the connection, but the descriptor is closed already (law 8); after
// it Protocol goes on answering.
func TestStateInConnectionLost(t *testing.T) {
	r := newRecorder()
	var server *strand.Server
	var listed int
	var control error
	var inside strand.Protocol
	r.onLost = func(error) {
		tr := r.transport()
		inside, listed = tr.Protocol(), len(server.Connections())
		control = tr.ExtraInfo(strand.ExtraSocket).(syscall.RawConn).Control(func(uintptr) {})
	}
	server, peer := served(t, r, nil)
	r.awaitCall(t, "ConnectionMade")
	require.NoError(t, peer.Close())
	r.awaitLost(t)
	require.Same(t, r, inside)
	require.Equal(t, 1, listed)
	require.ErrorIs(t, control, net.ErrClosed)
	require.Same(t, r, r.transport().Protocol(), "the last protocol answers for ever")
	require.NoError(t, server.Shutdown(context.Background()))
	require.Empty(t, server.Connections())
}

// served accepts one connection with r as its protocol, through a server that
// is closed with the test.
func served(t testing.TB, r *recorder, opts *strand.ServerOptions) (*strand.Server, net.Conn) {
	t.Helper()
	s, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() *recorder { return r }, opts)
	require.NoError(t, err)
	peer, err := net.Dial("tcp", s.Addrs()[0].String())
	require.NoError(t, err)
	t.Cleanup(func() {
		peer.Close()
		s.AbortClients()
		require.NoError(t, s.Shutdown(context.Background()))
	})
	return s, peer
}

// Law 8: the address is free again in ConnectionLost.
func TestListenAgainInConnectionLost(t *testing.T) {
	ours, _ := testkit.SocketPair(t, "tcp", ownHost+":0")
	var err error
	r := newRecorder()
	r.onLost = func(error) {
		var ln net.Listener
		if ln, err = net.Listen("tcp", ours.LocalAddr().String()); err == nil {
			ln.Close()
		}
	}
	tr := attach(t, ours, r, nil)
	tr.Abort()
	r.awaitLost(t)
	require.NoError(t, err)
}

// BT-09: the end that a callback decides comes after the callback, and after
// what was posted before it.
func TestLostIsNeverNested(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for name, end := range ends {
			var after []string
			r := newRecorder()
			r.onData = func([]byte) {
				end(r.transport())
				after = append(after, "the rest of the callback")
			}
			r.onLost = func(error) { after = append(after, "lost") }
			_, peer := connected(t, k, r, nil)
			send(t, peer, "x")
			require.NoError(t, r.awaitLost(t), name)
			require.Equal(t, []string{"the rest of the callback", "lost"}, after, name)
			r.wantCalls(t, name, "ConnectionMade", "DataReceived 1", "ConnectionLost nil")
		}
	})
}

// BT-09: so does the end that a failing Write causes.
func TestLostIsNotNestedInFailingWrite(t *testing.T) {
	ours, peer := tcpPair(t)
	var failed error
	r := newRecorder()
	r.onMade = func(tr strand.Transport) {
		tr.PauseReading()
		reset(t, peer)
		failed = writeUntilError(t, tr)
		assert.True(t, tr.IsClosing(), "from the moment the error is met")
	}
	attach(t, ours, r, nil)
	require.ErrorIs(t, r.awaitLost(t), syscall.ECONNRESET)
	require.ErrorIs(t, failed, syscall.ECONNRESET)
	r.wantCalls(t, "not nested", "ConnectionMade", "ConnectionLost ECONNRESET")
}

// Calling the end while holding a lock that ConnectionLost takes is no
// deadlock, for no transport method runs a callback (law 3).
func TestMethodsRunNoCallbacks(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		var mu sync.Mutex
		lock := func() {
			mu.Lock()
			defer mu.Unlock()
		}
		r := newRecorder()
		r.onData = func([]byte) { lock() }
		r.onPause = lock
		r.onResume = lock
		r.onLost = func(error) { lock() }
		tr, peer := backlogged(t, k, r, nil)
		tr.PauseReading()
		send(t, peer, "x")
		mu.Lock()
		tr.ResumeReading()
		require.NoError(t, tr.SetWriteBufferLimits(0, 0))
		tr.CallSoon(lock)
		tr.CallLater(0, lock)
		require.NoError(t, tr.WriteEOF())
		require.NoError(t, tr.Close())
		tr.Abort()
		mu.Unlock()
		require.NoError(t, r.awaitLost(t))
	})
}

// BT-12: after the end everything is harmless and keeps its answer.
func TestMethodsAfterTheEnd(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for name, end := range ends {
			r := newRecorder()
			tr, _ := connected(t, k, r, nil)
			require.NoError(t, tr.SetWriteBufferLimits(1000, 10))
			end(tr)
			require.NoError(t, r.awaitLost(t))
			checkEnded(t, tr, name)
			require.Equal(t, []string{"ConnectionMade", "ConnectionLost nil"}, r.trace(), "no further callback")
		}
	})
}

// checkEnded calls every method of a transport that has ended cleanly, with
// limits 10 and 1000.
func checkEnded(t *testing.T, tr strand.Transport, why string) {
	t.Helper()
	for _, p := range []string{"", "x"} {
		n, err := tr.Write([]byte(p))
		require.ErrorIs(t, err, net.ErrClosed, why)
		require.Zero(t, n)
		n, err = tr.WriteLines([]byte(p))
		require.ErrorIs(t, err, net.ErrClosed, why)
		require.Zero(t, n)
	}
	require.NoError(t, tr.WriteEOF())
	require.NoError(t, tr.Close())
	tr.Abort()
	tr.PauseReading()
	tr.ResumeReading()
	require.False(t, tr.IsReading())
	require.True(t, tr.IsClosing())
	require.True(t, tr.CanWriteEOF())
	require.False(t, tr.Writable())
	require.Zero(t, tr.WriteBufferSize())
	low, high := tr.WriteBufferLimits()
	require.Equal(t, [2]int{10, 1000}, [2]int{low, high})
	require.NoError(t, tr.SetWriteBufferLimits(0, 0))
	require.Error(t, tr.SetWriteBufferLimits(1, 2))
	require.False(t, tr.CallSoon(func() { t.Error("ran after the end") }))
	require.False(t, tr.CallLater(0, func() { t.Error("ran after the end") }).Stop(), "it comes back stopped")
	tr.SetProtocol(newRecorder())
	require.NotNil(t, tr.Protocol())
	require.NotEmpty(t, tr.LocalAddr().Network())
	require.NotEmpty(t, tr.RemoteAddr().Network())
	require.Equal(t, tr.LocalAddr(), tr.ExtraInfo(strand.ExtraSockname))
	require.ErrorIs(t, context.Cause(tr.Context()), net.ErrClosed)
	await(t, "Done", tr.Done())
}

// BT-12: SetProtocol after the end has no effect but the answer of Protocol.
func TestSetProtocolAfterTheEnd(t *testing.T) {
	r, late := newRecorder(), newRecorder()
	tr, _ := connected(t, kinds[0], r, nil)
	tr.Abort()
	r.awaitLost(t)
	tr.SetProtocol(late)
	require.Same(t, late, tr.Protocol())
	settle(t)
	require.Empty(t, late.trace())
}

// BT-13: the same after a Close that had to flush.
func TestMethodsAfterFlushingClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		require.NoError(t, tr.SetWriteBufferLimits(1000, 10))
		require.NoError(t, tr.Close())
		require.Len(t, readAll(t, peer), plenty)
		require.NoError(t, r.awaitLost(t))
		checkEnded(t, tr, "flushed")
	})
}

// After an error Write matches both net.ErrClosed and the cause.
func TestWriteAfterAnErrorKeepsTheCause(t *testing.T) {
	r := newRecorder()
	tr, peer := connected(t, kinds[0], r, nil)
	reset(t, peer)
	require.ErrorIs(t, r.awaitLost(t), syscall.ECONNRESET)
	_, err := tr.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.ErrorIs(t, context.Cause(tr.Context()), syscall.ECONNRESET)
}

// BT-01, XI-01: known names are answered, before and after the end, others
// with nil.
func TestExtraInfo(t *testing.T) {
	r := newRecorder()
	tr, peer := connected(t, kinds[0], r, nil)
	check := func() {
		require.Equal(t, peer.RemoteAddr(), tr.ExtraInfo(strand.ExtraSockname))
		require.Equal(t, peer.LocalAddr(), tr.ExtraInfo(strand.ExtraPeername))
		require.Equal(t, peer.RemoteAddr(), tr.LocalAddr())
		require.Equal(t, peer.LocalAddr(), tr.RemoteAddr())
		for _, name := range []string{"", "no such thing", "Socket", strand.ExtraPipe, strand.ExtraSubprocess,
			strand.ExtraSSLContext, strand.ExtraSSLObject, strand.ExtraPeerCert, strand.ExtraCipher, strand.ExtraCompression} {
			require.Nil(t, tr.ExtraInfo(name), name)
		}
	}
	check()
	tr.Abort()
	r.awaitLost(t)
	check()
}

// XI-01: an accepted connection's peer name is the address that connected.
func TestExtraInfoOfAccepted(t *testing.T) {
	r := newRecorder()
	s, peer := served(t, r, nil)
	r.awaitCall(t, "ConnectionMade")
	require.Equal(t, peer.LocalAddr(), r.transport().ExtraInfo(strand.ExtraPeername))
	require.Equal(t, s.Addrs()[0], r.transport().ExtraInfo(strand.ExtraSockname))
}

// XI-01: an address that is not known is nil, and not a nil pointer in an
// interface.
func TestExtraInfoWithoutAddresses(t *testing.T) {
	ours, peer := net.Pipe()
	defer peer.Close()
	tr := attach(t, addressless{ours}, newRecorder(), nil)
	require.True(t, tr.ExtraInfo(strand.ExtraSockname) == nil)
	require.True(t, tr.ExtraInfo(strand.ExtraPeername) == nil)
	require.Nil(t, tr.ExtraInfo(strand.ExtraSocket), "a foreign conn has no descriptor")
}

type addressless struct{ net.Conn }

func (addressless) LocalAddr() net.Addr  { return nil }
func (addressless) RemoteAddr() net.Addr { return nil }

// XI-02: of the socket only Control can be used; nobody reads or writes
// behind the transport's back.
func TestExtraSocketIsRestricted(t *testing.T) {
	for _, k := range kinds[:2] {
		tr, _ := connected(t, k, newRecorder(), nil)
		raw := tr.ExtraInfo(strand.ExtraSocket).(syscall.RawConn)
		ran := false
		require.NoError(t, raw.Control(func(uintptr) { ran = true }))
		require.True(t, ran)
		never := func(uintptr) bool {
			t.Error("the transport's descriptor was handed out")
			return true
		}
		require.ErrorIs(t, raw.Read(never), os.ErrInvalid)
		require.ErrorIs(t, raw.Write(never), os.ErrInvalid)
		_, isConn := tr.ExtraInfo(strand.ExtraSocket).(io.Closer)
		require.False(t, isConn, "it has no Close")
	}
}

// The context ends with the cause of the end, whether it was asked for before
// the end or after.
func TestContextCause(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name string
		end  func(tr strand.Transport, r *recorder, peer *faultyConn)
		want error
	}{
		{"Close", func(tr strand.Transport, _ *recorder, _ *faultyConn) { tr.Close() }, net.ErrClosed},
		{"Abort", func(tr strand.Transport, _ *recorder, _ *faultyConn) { tr.Abort() }, net.ErrClosed},
		{"error", func(_ strand.Transport, _ *recorder, c *faultyConn) { c.fail(broken) }, broken},
		{"panic", func(tr strand.Transport, _ *recorder, _ *faultyConn) { tr.CallSoon(func() { panic(broken) }) }, broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := newFaultyConn(t)
			r := newRecorder()
			tr := attach(t, conn, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
			before := tr.Context()
			require.NoError(t, before.Err())
			tt.end(tr, r, conn)
			r.awaitLost(t)
			require.ErrorIs(t, context.Cause(before), tt.want)
			require.ErrorIs(t, context.Cause(tr.Context()), tt.want)
			require.ErrorIs(t, before.Err(), context.Canceled)
		})
	}
}

// faultyConn is one end of a pipe whose Read can be made to fail.
type faultyConn struct {
	net.Conn
	peer net.Conn
	err  atomic.Pointer[error]
}

func newFaultyConn(t testing.TB) *faultyConn {
	ours, peer := net.Pipe()
	t.Cleanup(func() { peer.Close() })
	return &faultyConn{Conn: ours, peer: peer}
}

// fail has the Read that is waiting, and all later ones, return err.
func (c *faultyConn) fail(err error) {
	c.err.Store(&err)
	c.peer.Close()
}

func (c *faultyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if failed := c.err.Load(); err == io.EOF && failed != nil {
		err = *failed
	}
	return n, err
}

// The context is cancelled when the end is decided, not when it is delivered:
// a callback that waits for it is released.
func TestContextReleasesBlockedCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for name, end := range ends {
			entered := make(chan struct{})
			var cause error
			r := newRecorder()
			r.onData = func([]byte) {
				ctx := r.transport().Context()
				close(entered)
				<-ctx.Done()
				cause = context.Cause(ctx)
			}
			tr, peer := connected(t, k, r, nil)
			send(t, peer, "x")
			await(t, "DataReceived", entered)
			end(tr)
			require.NoError(t, r.awaitLost(t), name)
			require.ErrorIs(t, cause, net.ErrClosed)
		}
	})
}

// Done is closed after ConnectionLost has returned, and not before.
func TestDoneComesAfterLost(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		entered, release := make(chan struct{}), make(chan struct{})
		r := newRecorder()
		r.onLost = func(error) {
			close(entered)
			<-release
		}
		tr, _ := connected(t, k, r, nil)
		early := tr.Done()
		tr.Abort()
		await(t, "ConnectionLost", entered)
		select {
		case <-early:
			t.Error("Done was closed while ConnectionLost ran")
		default:
		}
		close(release)
		await(t, "Done", early)
		await(t, "Done asked for late", tr.Done())
	})
}

// Law 2: a callback that blocks holds up its own connection and no other. Law
// 8: its descriptor stays open meanwhile.
func TestBlockedCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		entered, release := make(chan struct{}), make(chan struct{})
		r := newRecorder()
		r.onData = func([]byte) {
			close(entered)
			<-release
		}
		tr, peer := connected(t, k, r, nil)
		send(t, peer, "x")
		await(t, "DataReceived", entered)
		settle(t) // other connections live

		_, err := tr.Write([]byte("still going"))
		require.NoError(t, err, "the blocked connection's output moves")
		readN(t, peer, len("still going"))

		tr.Abort()
		settle(t)
		require.Equal(t, []string{"ConnectionMade", "DataReceived 1"}, r.trace(), "lost waits for its turn")
		if raw, ok := tr.ExtraInfo(strand.ExtraSocket).(syscall.RawConn); ok {
			require.NoError(t, raw.Control(func(uintptr) {}), "open while a callback runs")
		}
		close(release)
		require.NoError(t, r.awaitLost(t))
	})
}

// A graceful close goes on beside a blocked callback: output is flushed, only
// ConnectionLost waits.
func TestCloseFlushesBesideBlockedCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		entered, release := make(chan struct{}), make(chan struct{})
		r := newRecorder()
		r.onData = func([]byte) {
			close(entered)
			<-release
		}
		tr, peer := backlogged(t, k, r, nil)
		send(t, peer, "x")
		await(t, "DataReceived", entered)
		require.NoError(t, tr.Close())
		require.NotZero(t, tr.WriteBufferSize())
		readN(t, peer, plenty)
		close(release)
		require.NoError(t, r.awaitLost(t))
	})
}

// actions are what a protocol may do inside any of its callbacks.
var actions = map[string]func(strand.Transport){
	"Close":         func(tr strand.Transport) { tr.Close() },
	"Abort":         func(tr strand.Transport) { tr.Abort() },
	"PauseReading":  func(tr strand.Transport) { tr.PauseReading(); tr.CallSoon(tr.ResumeReading) },
	"SetProtocol":   func(tr strand.Transport) { tr.SetProtocol(tr.Protocol()) },
	"Write":         func(tr strand.Transport) { tr.Write([]byte("x")) },
	"WriteEOF":      func(tr strand.Transport) { tr.WriteEOF() },
	"Context, Done": func(tr strand.Transport) { tr.Context(); tr.Done() },
	"CallSoon":      func(tr strand.Transport) { tr.CallSoon(func() {}) },
	"CallLater":     func(tr strand.Transport) { tr.CallLater(0, func() {}) },
	"Limits":        func(tr strand.Transport) { tr.SetWriteBufferLimits(0, 0); tr.SetWriteBufferLimits(1<<20, 0) },
}

// hooks sets one hook of a recorder to do something with the transport.
var hooks = map[string]func(r *recorder, do func(strand.Transport)){
	"ConnectionMade": func(r *recorder, do func(strand.Transport)) { r.onMade = do },
	"DataReceived": func(r *recorder, do func(strand.Transport)) {
		before := r.onData
		r.onData = func(data []byte) { before(data); do(r.transport()) }
	},
	"EOFReceived": func(r *recorder, do func(strand.Transport)) {
		r.onEOF = func() bool { do(r.transport()); return false }
	},
	"PauseWriting":   func(r *recorder, do func(strand.Transport)) { r.onPause = func() { do(r.transport()) } },
	"ResumeWriting":  func(r *recorder, do func(strand.Transport)) { r.onResume = func() { do(r.transport()) } },
	"ConnectionLost": func(r *recorder, do func(strand.Transport)) { r.onLost = func(error) { do(r.transport()) } },
}

// fullLife takes a connection through every callback: data, a pause and a
// resume caused by it, end of file, lost. A hook may end it before.
func fullLife(t testing.TB, k kind, hook func(r *recorder)) *recorder {
	t.Helper()
	r := newRecorder()
	filled := false // under r's lock: DataReceived and the pause behind it are past
	r.onData = func([]byte) {
		tr := r.transport()
		tr.CallSoon(func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			filled = true
			r.tell()
		})
		for tr.Writable() {
			if _, err := tr.Write(make([]byte, 256<<10)); err != nil {
				return // after WriteEOF
			}
		}
	}
	hook(r)
	ours, peer := k.pair(t)
	narrowConns(t, ours, peer)
	opts := &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}
	tr, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, opts)
	if err != nil { // ConnectionMade panicked
		tr = r.transport()
	}
	t.Cleanup(tr.Abort)
	peer.Write([]byte("x")) // it may be refused: then the hook has ended the connection
	r.await(t, "a full buffer or the end", func() bool { return filled || r.count("ConnectionLost") > 0 })
	copied := make(chan struct{})
	go func() {
		io.Copy(io.Discard, peer)
		close(copied)
	}()
	r.await(t, "an empty buffer or the end", func() bool {
		return r.count("PauseWriting") == r.count("ResumeWriting") || r.count("ConnectionLost") > 0
	})
	peer.(interface{ CloseWrite() error }).CloseWrite()
	r.awaitLost(t)
	await(t, "the peer's end of file", copied)
	return r
}

// count is for conditions of await, which hold the lock.
func (r *recorder) count(call string) int {
	n := 0
	for _, c := range r.calls {
		if strings.HasPrefix(c, call) {
			n++
		}
	}
	return n
}

// Everything is allowed in every callback, and keeps the laws.
func TestEveryActionInEveryCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for where, hook := range hooks {
			for what, do := range actions {
				t.Run(what+" in "+where, func(t *testing.T) {
					r := fullLife(t, k, func(r *recorder) { hook(r, do) })
					r.wantCalls(t, "the laws hold", r.trace()...)
					calls := r.trace()
					require.Equal(t, "ConnectionMade", calls[0])
					require.Equal(t, "ConnectionLost nil", calls[len(calls)-1])
				})
			}
		}
	})
}

// BT-10: every method may be called from any goroutine at any time, the end
// included. The race detector and the recorder watch.
func TestAllMethodsAtOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for range 10 {
			stress(t, k)
		}
	})
}

func stress(t *testing.T, k kind) {
	r := newRecorder()
	tr, peer := connected(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{WriteBufferHigh: 4096}})
	var peers, users sync.WaitGroup
	peers.Go(func() { io.Copy(io.Discard, peer) })
	peers.Go(func() {
		for p := make([]byte, 1000); ; {
			if _, err := peer.Write(p); err != nil {
				return
			}
		}
	})
	for range 4 {
		users.Go(func() {
			for i := range 200 {
				useAll(tr, r, i)
			}
		})
	}
	users.Wait()
	tr.Close()
	tr.ResumeReading()
	r.awaitLost(t)
	peer.Close()
	peers.Wait()
	r.wantCalls(t, "the laws hold", r.trace()...)
}

// useAll calls every method that does not end the connection, and some that do
// when it has lived long enough.
func useAll(tr strand.Transport, r *recorder, i int) {
	tr.Write(make([]byte, 3000))
	tr.WriteLines([]byte("a"), nil, []byte("b"))
	tr.PauseReading()
	tr.SetWriteBufferLimits(4096, i%4096)
	tr.IsReading()
	tr.IsClosing()
	tr.ResumeReading()
	tr.Writable()
	tr.WriteBufferSize()
	tr.WriteBufferLimits()
	tr.CanWriteEOF()
	tr.SetProtocol(r)
	tr.Protocol()
	tr.Context()
	tr.Done()
	tr.LocalAddr()
	tr.RemoteAddr()
	tr.ExtraInfo(strand.ExtraSocket)
	tr.CallSoon(func() { tr.IsClosing() })
	timer := tr.CallLater(time.Duration(i%2)*time.Microsecond, func() { tr.WriteBufferSize() })
	if i%3 == 0 {
		timer.Stop()
	}
	switch i {
	case 150:
		tr.WriteEOF()
	case 180:
		tr.Close()
	case 190:
		tr.Abort()
	}
}

// A conn whose Close takes long does not hold up Close, Abort or anything
// else, for it has a goroutine of its own.
func TestSlowCloseOfForeignConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		defer peer.Close()
		r := newRecorder()
		tr := attach(t, slowCloser{ours}, r, nil)
		start := time.Now()
		tr.Abort()
		require.Zero(t, time.Since(start))
		require.NoError(t, r.awaitLost(t))
		require.Equal(t, slowClose, time.Since(start), "the descriptor is closed before ConnectionLost")
	})
}

const slowClose = 5 * time.Second

type slowCloser struct{ net.Conn }

func (c slowCloser) Close() error {
	time.Sleep(slowClose) // in a bubble: no real waiting
	return c.Conn.Close()
}
