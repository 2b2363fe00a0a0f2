package strand_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

var errBoom = errors.New("boom")

// failures are the ways in which a callback does not return.
var failures = map[string]func(){
	"panic":  func() { panic(errBoom) },
	"goexit": goexit,
}

// goexit is what t.FailNow does, with a frame of this file.
func goexit() { runtime.Goexit() }

// requireLoss checks the error that a failure ends its connection with.
func requireLoss(t testing.TB, failure string, err error) {
	t.Helper()
	var panicked *strand.PanicError
	require.ErrorAs(t, err, &panicked)
	require.Contains(t, string(panicked.Stack), "panic_test.go", "the stack shows where")
	if failure == "panic" {
		require.Equal(t, errBoom, panicked.Value)
		require.ErrorIs(t, err, errBoom)
	} else {
		require.ErrorContains(t, err, "runtime.Goexit")
	}
}

// EX-01, EX-03, EX-04, EX-05, EX-06: whatever callback fails, its connection
// ends with a *PanicError, ConnectionLost comes once and last, and everything
// is cleaned up. A failure of ConnectionLost itself comes too late to be its
// argument.
func TestFailureInEveryCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for where, hook := range hooks {
			for what, fail := range failures {
				t.Run(what+" in "+where, func(t *testing.T) {
					r := fullLife(t, k, func(r *recorder) {
						hook(r, func(strand.Transport) { fail() })
					})
					r.wantCalls(t, "the laws hold", r.trace()...)
					calls := r.trace()
					if where == "ConnectionLost" {
						require.Equal(t, "ConnectionLost nil", calls[len(calls)-1])
						return
					}
					require.Equal(t, []string{where, "ConnectionLost panic"}, lastTwo(calls))
					requireLoss(t, what, r.lost)
				})
			}
		}
	})
}

// lastTwo returns the last two calls, without counts.
func lastTwo(calls []string) []string {
	calls = calls[len(calls)-2:]
	if strings.HasPrefix(calls[0], "DataReceived ") {
		calls[0] = "DataReceived"
	}
	return calls
}

// EX-01: the creating call returns the failure of ConnectionMade, after
// ConnectionLost.
func TestFailureInMadeIsReturned(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for what, fail := range failures {
			ours, peer := k.pair(t)
			r := newRecorder()
			r.onMade = func(strand.Transport) { fail() }
			tr, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r },
				&strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
			require.Nil(t, tr)
			requireLoss(t, what, err)
			r.wantCalls(t, what, "ConnectionMade", "ConnectionLost panic")
			require.Empty(t, readAll(t, peer), "the conn is closed")
		}
	})
}

// EX-04: GetBuffer and BufferUpdated are callbacks too.
func TestFailureInBufferedCallbacks(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for what, fail := range failures {
			for _, inGet := range []bool{true, false} {
				ours, peer := k.pair(t)
				r := newBufferedRecorder()
				if inGet {
					r.onGet = fail
				} else {
					r.onUpdated = func(int) { fail() }
				}
				r.onMade = func(tr strand.Transport) { tr.PauseReading() } // a socket asks for a buffer early
				tr := attachBuffered(t, ours, r)
				send(t, peer, "x")
				tr.ResumeReading()
				requireLoss(t, what, r.awaitLost(t))
			}
		}
	})
}

// Funcs and timers run as callbacks do: theirs is the same end.
func TestFailureInPosted(t *testing.T) {
	posts := map[string]func(tr strand.Transport, fn func()){
		"CallSoon":  func(tr strand.Transport, fn func()) { tr.CallSoon(fn) },
		"CallLater": func(tr strand.Transport, fn func()) { tr.CallLater(0, fn) },
	}
	eachKind(t, func(t *testing.T, k kind) {
		for name, post := range posts {
			for what, fail := range failures {
				t.Run(what+" in "+name, func(t *testing.T) {
					r := newRecorder()
					tr, _ := connected(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
					post(tr, fail)
					requireLoss(t, what, r.awaitLost(t))
				})
			}
		}
	})
}

// The same from inside a callback, where the reader itself runs what was
// posted, and would be lost with it. Another func behind it still runs: that
// is what CallSoon's true means.
func TestFailureInPostedFromCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for what, fail := range failures {
			ran := 0
			r := newRecorder()
			r.onData = func([]byte) {
				tr := r.transport()
				for range 3 {
					assert.True(t, tr.CallSoon(fail))
					assert.True(t, tr.CallSoon(func() { ran++ }))
				}
			}
			_, peer := connected(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
			send(t, peer, "x")
			requireLoss(t, what, r.awaitLost(t))
			require.Equal(t, 3, ran)
		}
	})
}

// What was posted runs before ConnectionLost though a func of the last ones
// calls Goexit.
func TestGoexitInTheLastPosted(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		var order []string
		r := newRecorder()
		r.onLost = func(error) { order = append(order, "lost") }
		tr, _ := connected(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
		started, release := make(chan struct{}), make(chan struct{})
		tr.CallSoon(func() {
			close(started)
			<-release // the reader comes to its end meanwhile, and waits for its turn
			tr.CallSoon(goexit)
			tr.CallSoon(func() { order = append(order, "posted") })
		})
		await(t, "the posted func", started)
		tr.Abort()
		settle(t)
		close(release)
		require.NoError(t, r.awaitLost(t))
		require.Equal(t, []string{"posted", "lost"}, order)
	})
}

// A conn in whose Read the reader is stuck is closed by a goroutine that takes
// the turn: a Goexit in what it runs then must not take the turn away.
func TestGoexitWhileAForeignConnIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		defer peer.Close()
		r := newRecorder()
		tr := attach(t, slowCloser{deafConn{ours}}, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
		synctest.Wait() // the reader is in Read
		tr.Abort()
		synctest.Wait() // the closer is in Close
		require.True(t, tr.CallSoon(goexit))
		require.NoError(t, r.awaitLost(t))
	})
}

// EX-03: output that was waiting is dropped.
func TestFailureDropsOutput(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onData = func([]byte) { panic(errBoom) }
		tr, peer := backlogged(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
		send(t, peer, "x")
		requireLoss(t, "panic", r.awaitLost(t))
		require.Zero(t, tr.WriteBufferSize())
		require.NotContains(t, r.trace(), "ResumeWriting")
	})
}

// Law 7: no other connection is harmed, of the same server neither.
func TestFailureHarmsNoOtherConnection(t *testing.T) {
	for _, fail := range failures {
		s, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0",
			func() *recorder {
				r := newRecorder()
				r.onData = func(data []byte) {
					if string(data) == "fail" {
						fail()
					}
					r.transport().Write(data)
				}
				return r
			}, &strand.ServerOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
		require.NoError(t, err)
		good, bad := dial(t, s.Addrs()[0]), dial(t, s.Addrs()[0])
		for range 3 {
			send(t, good, "echo")
			readN(t, good, 4)
			send(t, bad, "fail")
			_, err := bad.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			bad = dial(t, s.Addrs()[0])
		}
		good.Close()
		bad.Close()
		require.NoError(t, s.Shutdown(context.Background()))
	}
}

// EX-05: when ConnectionLost fails, the descriptor is closed, the server's
// count goes down and Done is closed all the same.
func TestFailureInLostLeavesNothing(t *testing.T) {
	for _, fail := range failures {
		var log logBuffer
		r := newRecorder()
		r.onLost = func(error) { fail() }
		s, peer := served(t, r, &strand.ServerOptions{TransportOptions: logTo(&log)})
		r.awaitCall(t, "ConnectionMade")
		peer.Close()
		require.NoError(t, r.awaitLost(t))
		require.NoError(t, s.Shutdown(context.Background()))
		require.Empty(t, s.Connections())
		require.Contains(t, log.String(), "callback panicked")
	}
}

// EX-06: a failing PauseWriting does not reach the Write that caused it.
func TestFailureInPauseDoesNotReachWrite(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onPause = func() { panic(errBoom) }
		r.onData = func([]byte) {
			n, err := r.transport().Write(numbered(plenty))
			assert.NoError(t, err)
			assert.Equal(t, plenty, n)
		}
		_, peer := narrow(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
		send(t, peer, "x")
		requireLoss(t, "panic", r.awaitLost(t))
		r.wantCalls(t, "in turn", "ConnectionMade", "DataReceived 1", "PauseWriting", "ConnectionLost panic")
	})
}

// EX-07: the first cause counts. A Close that had nothing to flush has decided
// the end before the panic; one that had not, has not.
func TestPanicAfterClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		opts := &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}
		closeAndPanic := func(r *recorder) {
			r.onData = func([]byte) {
				r.transport().Close()
				panic(errBoom)
			}
		}
		idle := newRecorder()
		closeAndPanic(idle)
		_, peer := connected(t, k, idle, opts)
		send(t, peer, "x")
		require.NoError(t, idle.awaitLost(t))

		busy := newRecorder()
		closeAndPanic(busy)
		_, peer = backlogged(t, k, busy, opts)
		send(t, peer, "x")
		requireLoss(t, "panic", busy.awaitLost(t))
	})
}

// EX-08: a factory that fails leaves a conn that was passed in with the
// caller.
func TestFactoryFailsInAttach(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		require.PanicsWithValue(t, errBoom, func() {
			strand.Attach(context.Background(), ours, func() *recorder { panic(errBoom) }, nil)
		})
		_, _, err := strand.Attach(context.Background(), ours, func() *recorder { return nil }, nil)
		require.ErrorContains(t, err, "nil")
		send(t, peer, "still open")
		_, err = io.ReadFull(ours, make([]byte, len("still open")))
		require.NoError(t, err)
	})
}

// EX-08: a connection that CreateConnection made itself is nobody's then, and
// closed.
func TestFactoryFailsInCreateConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	create := func(factory func() *recorder) error {
		_, _, err := strand.CreateConnection(context.Background(), "tcp", ln.Addr().String(), factory, nil)
		return err
	}
	for _, failing := range []func(){
		func() { require.PanicsWithValue(t, errBoom, func() { create(func() *recorder { panic(errBoom) }) }) },
		func() { require.ErrorContains(t, create(func() *recorder { return nil }), "nil") },
	} {
		failing()
		peer, err := ln.Accept()
		require.NoError(t, err)
		require.Empty(t, readAll(t, peer), "closed")
		peer.Close()
	}
}

// EX-09: a factory that fails in a server is logged, its connection closed,
// and the server goes on.
func TestFactoryFailsInServer(t *testing.T) {
	broken := map[string]func() *recorder{
		"panic":  func() *recorder { panic(errBoom) },
		"goexit": func() *recorder { runtime.Goexit(); return nil },
		"nil":    func() *recorder { return nil },
	}
	for name, fail := range broken {
		t.Run(name, func(t *testing.T) {
			var log logBuffer
			var calls atomic.Int32
			r := newRecorder()
			s, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() *recorder {
				if calls.Add(1) == 1 {
					return fail()
				}
				return r
			}, &strand.ServerOptions{TransportOptions: logTo(&log)})
			require.NoError(t, err)
			refused := dial(t, s.Addrs()[0])
			require.Empty(t, readAll(t, refused))
			good := dial(t, s.Addrs()[0])
			r.awaitCall(t, "ConnectionMade")
			require.Contains(t, log.String(), "level=ERROR")
			good.Close()
			refused.Close()
			require.NoError(t, s.Shutdown(context.Background()))
		})
	}
}

// EX-13: one ERROR record, to the Logger of the options, with what happened,
// the stack, and the addresses of the connection.
func TestPanicIsLoggedOnce(t *testing.T) {
	for what, fail := range failures {
		for _, posted := range []bool{false, true} {
			var log logBuffer
			r := newRecorder()
			r.onData = func([]byte) {
				if !posted {
					fail()
				}
				r.transport().CallSoon(fail)
			}
			tr, peer := connected(t, kinds[0], r, &strand.AttachOptions{TransportOptions: logTo(&log)})
			send(t, peer, "x")
			r.awaitLost(t)
			out := log.String()
			require.Equal(t, 1, strings.Count(out, "level=ERROR"), what)
			require.Contains(t, out, "panic_test.go", "the stack")
			require.Contains(t, out, "callback panicked")
			require.Contains(t, out, "transport.local="+tr.LocalAddr().String())
			require.Contains(t, out, "transport.remote="+tr.RemoteAddr().String())
			if what == "panic" {
				require.Contains(t, out, "boom")
			}
		}
	}
}

// A panic's value may be anything.
func TestPanicValues(t *testing.T) {
	for _, value := range []any{"text", 42, []int{1}, struct{}{}, time.Second} {
		r := newRecorder()
		r.onData = func([]byte) { panic(value) }
		_, peer := connected(t, kinds[0], r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
		send(t, peer, "x")
		var panicked *strand.PanicError
		require.ErrorAs(t, r.awaitLost(t), &panicked)
		require.Equal(t, value, panicked.Value)
		require.NoError(t, errors.Unwrap(panicked))
	}
}

// panic(nil) is a panic in Go.
func TestPanicNil(t *testing.T) {
	r := newRecorder()
	r.onData = func([]byte) { panic(nil) }
	_, peer := connected(t, kinds[0], r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
	send(t, peer, "x")
	var nilPanic *runtime.PanicNilError
	require.ErrorAs(t, r.awaitLost(t), &nilPanic)
}
