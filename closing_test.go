package strand_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// CL-01: with nothing to flush the end follows, clean and not nested, and
// reading has stopped at once.
func TestCloseIdle(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		require.NoError(t, tr.Close())
		require.True(t, tr.IsClosing())
		require.False(t, tr.IsReading())
		require.False(t, tr.Writable())
		require.NoError(t, r.awaitLost(t))
		require.Empty(t, readAll(t, peer))
		r.wantCalls(t, "nothing else", "ConnectionMade", "ConnectionLost nil")
	})
}

// CL-01: Close inside a callback ends the connection after the callback; what
// the peer has sent meanwhile is not delivered.
func TestCloseInCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		sent := make(chan struct{})
		r.onData = func([]byte) {
			<-sent
			r.transport().Close()
		}
		_, peer := connected(t, k, r, nil)
		_, err := peer.Write([]byte("a"))
		require.NoError(t, err)
		r.awaitData(t, 1)
		_, err = peer.Write([]byte("b"))
		require.NoError(t, err)
		close(sent)
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "b came too late", "ConnectionMade", "DataReceived 1", "ConnectionLost nil")
	})
}

// CL-01: what was accepted goes out before the end.
func TestCloseFlushes(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		tr.Close()
		require.True(t, tr.IsClosing())
		require.False(t, tr.IsReading())
		requireSame(t, numbered(plenty), readAll(t, peer), "everything")
		require.NoError(t, r.awaitLost(t))
		require.Zero(t, tr.WriteBufferSize())
	})
}

// CL-01: while a close is flushing nothing is received any more.
func TestNothingIsReceivedWhileFlushing(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		r.awaitCall(t, "PauseWriting")
		tr.Close()
		_, err := peer.Write([]byte("too late"))
		require.NoError(t, err)
		io.Copy(io.Discard, peer) // over TCP what is unread turns the end into a reset
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "no data", "ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil")
	})
}

// stuck is a connection in a synctest bubble that holds output which the peer
// does not read.
func stuck(t *testing.T, r *recorder, closeTimeout time.Duration) strand.Transport {
	t.Helper()
	ours, peer := net.Pipe()
	t.Cleanup(func() { peer.Close() })
	opts := &strand.AttachOptions{TransportOptions: strand.TransportOptions{CloseTimeout: closeTimeout, Logger: quiet}}
	tr := attach(t, ours, r, opts)
	mustWrite(t, tr, []byte("nobody reads this"))
	return tr
}

// CL-01: asyncio waits for ever for a peer that does not read; strand ends the
// connection with an error, by default after 30 s.
func TestCloseTimeout(t *testing.T) {
	for _, tt := range []struct{ set, want time.Duration }{{0, 30 * time.Second}, {time.Second, time.Second}} {
		t.Run(tt.want.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				tr := stuck(t, r, tt.set)
				start := time.Now()
				tr.Close()
				<-tr.Done()
				require.Equal(t, tt.want, time.Since(start))
				var timeout *strand.TimeoutError
				require.ErrorAs(t, r.awaitLost(t), &timeout)
				require.Equal(t, strand.TimeoutError{Op: "close", After: tt.want}, *timeout)
				require.ErrorIs(t, timeout, os.ErrDeadlineExceeded)
			})
		})
	}
}

// CL-01: a negative CloseTimeout is asyncio's: for ever.
func TestCloseWithoutTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := stuck(t, newRecorder(), -1)
		tr.Close()
		select {
		case <-tr.Done():
			t.Fatal("the close has ended")
		case <-time.After(1000 * time.Hour): // the bubble's time, which costs nothing
		}
		require.Positive(t, tr.WriteBufferSize())
	})
}

// The time limit is for the flush; an end that came before leaves no timer.
func TestCloseTimeoutIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		tr := stuck(t, r, time.Second)
		tr.Close()
		tr.Abort()
		require.NoError(t, r.awaitLost(t))
		time.Sleep(time.Minute) // the bubble's time: whatever timer is left would fire
		r.wantCalls(t, "the end is the end", "ConnectionMade", "ConnectionLost nil")
	})
}

// CL-02: in any combination, from inside and outside, one ConnectionLost(nil).
func TestCloseAndAbortAreIdempotent(t *testing.T) {
	closeIt := func(tr strand.Transport) { tr.Close() }
	abort := strand.Transport.Abort
	for i, calls := range [][]func(strand.Transport){
		{closeIt, closeIt}, {abort, abort}, {closeIt, abort}, {abort, closeIt}, {abort, closeIt, abort, closeIt},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				r := newRecorder()
				r.onLost = func(error) { callAll(r.transport(), calls) }
				tr, _ := connected(t, k, r, nil)
				callAll(tr, calls)
				require.NoError(t, r.awaitLost(t))
				callAll(tr, calls)
				r.wantCalls(t, "once", "ConnectionMade", "ConnectionLost nil")
			})
		})
	}
}

func callAll(tr strand.Transport, calls []func(strand.Transport)) {
	for _, call := range calls {
		call(tr)
	}
}

// CL-03: Abort discards the buffer at once.
func TestAbortDiscards(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		tr.Abort()
		require.Zero(t, tr.WriteBufferSize())
		require.True(t, tr.IsClosing())
		require.NoError(t, r.awaitLost(t))
		require.Less(t, len(readAll(t, peer)), plenty)
	})
}

// CL-03: Abort in a callback does not nest ConnectionLost, and the descriptor
// stays open while the callback runs (law 8).
func TestAbortInCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		var stillOpen error
		ours, peer := k.pair(t)
		r.onData = func([]byte) {
			r.transport().Abort()
			stillOpen = ours.SetReadDeadline(time.Time{}) // fails on a closed conn
		}
		attach(t, ours, r, nil)
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, r.awaitLost(t))
		require.NoError(t, stillOpen)
		require.ErrorIs(t, ours.SetReadDeadline(time.Time{}), net.ErrClosed)
		r.wantCalls(t, "lost comes after", "ConnectionMade", "DataReceived 1", "ConnectionLost nil")
	})
}

// CL-04: Abort cuts a flush short.
func TestAbortWhileFlushing(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		r.awaitCall(t, "PauseWriting")
		tr.Close()
		tr.Abort()
		require.Zero(t, tr.WriteBufferSize())
		require.NoError(t, r.awaitLost(t))
		require.Less(t, len(readAll(t, peer)), plenty)
		r.wantCalls(t, "FC-10: no resume", "ConnectionMade", "PauseWriting", "ConnectionLost nil")
	})
}

// CL-05: Abort is no reset: what the kernel took arrives, then FIN.
func TestAbortKeepsWhatTheKernelHas(t *testing.T) {
	for _, k := range fastKinds {
		t.Run(k.name, func(t *testing.T) {
			tr, peer := connected(t, k, newRecorder(), nil)
			mustWrite(t, tr, []byte("sent"))
			tr.Abort()
			require.Equal(t, "sent", string(readAll(t, peer)))
		})
	}
}

// CL-06: after Abort, or Close with nothing to flush, a later failure does not
// become the reason.
func TestFirstCauseWins(t *testing.T) {
	for name, end := range map[string]func(strand.Transport){
		"Abort": strand.Transport.Abort,
		"Close": func(tr strand.Transport) { tr.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			var log logBuffer
			r := newRecorder()
			r.onMade = func(tr strand.Transport) {
				end(tr)
				panic("later")
			}
			ours, _ := tcpPair(t)
			tr, _, err := strand.Attach(t.Context(), ours, func() *recorder { return r }, &strand.AttachOptions{TransportOptions: logTo(&log)})
			require.Error(t, err, "ConnectionMade did not return")
			require.Nil(t, tr)
			require.NoError(t, r.awaitLost(t))
			require.Contains(t, log.String(), "later", "the panic is not lost")
		})
	}
}

// CL-07: a failure while Close is flushing is the reason.
func TestFlushErrorWhileClosing(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		tr.Close()
		hangUp(t, peer)
		err := r.awaitLost(t)
		require.True(t, isHangup(err), "%v", err)
	})
}

// CL-08: an end in ConnectionMade: nothing is delivered, what was written
// before Close goes out, and the creating call returns its pair.
func TestEndInConnectionMade(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(strand.Transport)
		want string
	}{
		{"Close", func(tr strand.Transport) { tr.Close() }, "hello"},
		{"Abort", strand.Transport.Abort, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				r := newRecorder()
				r.onMade = func(tr strand.Transport) {
					mustWrite(t, tr, []byte(tt.want))
					tt.end(tr)
				}
				ours, peer := k.pair(t)
				if tt.want == "" { // unread data would have Close reset what was written
					_, err := peer.Write([]byte("never delivered"))
					require.NoError(t, err)
				}
				attach(t, ours, r, nil)
				require.NoError(t, r.awaitLost(t))
				if tt.want != "" {
					require.Equal(t, tt.want, string(readAll(t, peer)))
				}
				r.wantCalls(t, "no data", "ConnectionMade", "ConnectionLost nil")
			})
		})
	}
}

// CL-08: a large flush that begins in ConnectionMade.
func TestCloseInConnectionMadeFlushes(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onMade = func(tr strand.Transport) {
			mustWrite(t, tr, numbered(plenty))
			tr.Close()
		}
		_, peer := narrow(t, k, r, nil)
		requireSame(t, numbered(plenty), readAll(t, peer), "everything")
		require.NoError(t, r.awaitLost(t))
	})
}

// CL-09: every method of a transport is harmless in ConnectionLost.
func TestMethodsInConnectionLost(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onLost = func(error) {
			tr := r.transport()
			requireRefused(t, tr, net.ErrClosed)
			require.NoError(t, tr.WriteEOF())
			tr.PauseReading()
			tr.ResumeReading()
			require.NoError(t, tr.SetWriteBufferLimits(10, 5))
			tr.Close()
			tr.Abort()
		}
		tr, _ := connected(t, k, r, nil)
		tr.Close()
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "once", "ConnectionMade", "ConnectionLost nil")
	})
}

// CL-10: an error of the network is the protocol's business and nobody else's.
func TestNetworkErrorsAreNotLogged(t *testing.T) {
	var log logBuffer
	r := newRecorder()
	_, peer := connected(t, kinds[0], r, &strand.AttachOptions{TransportOptions: logTo(&log)})
	reset(t, peer)
	require.Error(t, r.awaitLost(t))
	require.Empty(t, log.String())
}

// CL-10: a panic is a defect, and logged: one record with the panic's value
// and the addresses. Output that waits is dropped.
func TestPanicsAreLogged(t *testing.T) {
	var log logBuffer
	r := newRecorder()
	r.onData = func([]byte) { panic("a defect") }
	tr, peer := backlogged(t, kinds[0], r, &strand.AttachOptions{TransportOptions: logTo(&log)})
	_, err := peer.Write([]byte("x"))
	require.NoError(t, err)
	var panicked *strand.PanicError
	require.ErrorAs(t, r.awaitLost(t), &panicked)
	require.Equal(t, "a defect", panicked.Value)
	require.Zero(t, tr.WriteBufferSize())
	out := log.String()
	require.Equal(t, 1, strings.Count(out, "level="), out)
	require.Contains(t, out, "a defect")
	require.Contains(t, out, tr.LocalAddr().String())
	require.Contains(t, out, tr.RemoteAddr().String())
}

// CL-11: Abort in ResumeWriting ends the connection once and quietly.
func TestAbortInResumeWriting(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		var log logBuffer
		r := newRecorder()
		r.onResume = func() { r.transport().Abort() }
		opts := marks(1000, 0) // low 0: everything is out when Abort comes
		opts.Logger = logTo(&log).Logger
		_, peer := backlogged(t, k, r, opts)
		readN(t, peer, plenty)
		require.NoError(t, r.awaitLost(t))
		require.Empty(t, log.String())
		r.wantCalls(t, "once", "ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil")
	})
}

// CL-12, WR-06: a write in ResumeWriting while Close is flushing is refused, and
// the close comes to its end.
func TestWriteInResumeWritingWhileClosing(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onResume = func() { requireRefused(t, r.transport(), net.ErrClosed) }
		tr, peer := backlogged(t, k, r, marks(10, 0))
		tr.Close()
		requireSame(t, numbered(plenty), readAll(t, peer), "everything")
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "resume before lost", "ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil")
	})
}
