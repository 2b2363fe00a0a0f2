package strand_test

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// piped is a connection over net.Pipe in a bubble, with the options that set
// makes.
func piped(t *testing.T, r *recorder, set func(o *strand.TransportOptions)) (strand.Transport, net.Conn) {
	t.Helper()
	ours, peer := net.Pipe()
	t.Cleanup(func() { peer.Close() })
	o := &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}
	set(&o.TransportOptions)
	return attach(t, ours, r, o), peer
}

func idleAfter(d time.Duration) func(*strand.TransportOptions) {
	return func(o *strand.TransportOptions) { o.IdleTimeout = d }
}

func writeWithin(d time.Duration) func(*strand.TransportOptions) {
	return func(o *strand.TransportOptions) { o.WriteTimeout = d }
}

// requireTimeout checks the error of a limit.
func requireTimeout(t testing.TB, err error, op string, after time.Duration) {
	t.Helper()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	var timeout *strand.TimeoutError
	require.ErrorAs(t, err, &timeout)
	require.Equal(t, strand.TimeoutError{Op: op, After: after}, *timeout)
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	require.True(t, ne.Timeout())
}

// requireWithin checks that a limit was kept: not early, and at most a quarter
// late.
func requireWithin(t testing.TB, limit, took time.Duration) {
	t.Helper()
	require.GreaterOrEqual(t, took, limit)
	require.LessOrEqual(t, took, limit+limit/4)
}

// IdleTimeout counts from the beginning if nothing ever comes.
func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		start := time.Now()
		piped(t, r, idleAfter(8*time.Second))
		requireTimeout(t, r.awaitLost(t), "idle", 8*time.Second)
		requireWithin(t, 8*time.Second, time.Since(start))
		r.wantCalls(t, "no end of file", "ConnectionMade", "ConnectionLost timeout")
	})
}

// Bytes of either direction keep the connection; from the last one on the
// limit counts.
func TestIdleTimeoutIsPutOff(t *testing.T) {
	moves := map[string]func(t *testing.T, tr strand.Transport, peer net.Conn){
		"received": func(t *testing.T, _ strand.Transport, peer net.Conn) { send(t, peer, "x") },
		"sent": func(t *testing.T, tr strand.Transport, peer net.Conn) {
			mustWrite(t, tr, []byte("x"))
			io.ReadFull(peer, make([]byte, 1))
		},
	}
	for name, move := range moves {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				tr, peer := piped(t, r, idleAfter(8*time.Second))
				for range 10 {
					time.Sleep(7900 * time.Millisecond) // fake: the bubble's clock
					move(t, tr, peer)
				}
				last := time.Now()
				requireTimeout(t, r.awaitLost(t), "idle", 8*time.Second)
				requireWithin(t, 8*time.Second, time.Since(last))
			})
		})
	}
}

// trickle is a peer's conn that sends a byte a second, once it is slow.
type trickle struct {
	net.Conn
	slow bool
}

func (c *trickle) Write(p []byte) (int, error) {
	if !c.slow {
		return c.Conn.Write(p)
	}
	for i := range p {
		time.Sleep(time.Second) // fake: the bubble's clock
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// Over TLS it is the bytes that arrive which count, as they do without, although
// a record can only be delivered when it is whole.
func TestIdleTimeoutDuringRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { theirs.Close() })
		peer := &trickle{Conn: theirs}
		r := newRecorder()
		var o strand.AttachOptions
		idleAfter(8 * time.Second)(&o.TransportOptions)
		_, client := attachSecure(t, ours, peer, r, &o)
		go io.Copy(io.Discard, theirs)
		require.NoError(t, theirs.SetDeadline(time.Time{}))
		peer.slow = true
		_, err := client.Write(numbered(100))
		require.NoError(t, err)
		r.awaitData(t, 100)
	})
}

// IdleTimeout ends a paused connection too, and one whose output nobody takes.
func TestIdleTimeoutWhilePausedOrStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		tr, _ := piped(t, r, idleAfter(8*time.Second))
		tr.PauseReading()
		mustWrite(t, tr, []byte("x"))
		requireTimeout(t, r.awaitLost(t), "idle", 8*time.Second)
	})
}

// Zero and negative limits are none.
func TestNoIdleTimeout(t *testing.T) {
	for _, d := range []time.Duration{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			r := newRecorder()
			tr, _ := piped(t, r, idleAfter(d))
			mustWrite(t, tr, []byte("x"))
			time.Sleep(1000 * time.Hour)
			synctest.Wait()
			require.False(t, tr.IsClosing())
		})
	}
}

// The limits hold over real sockets as well; the times are real here and
// short, and only the error is looked at. On a slow machine the limit may come
// before ConnectionMade: then it is what the creating call returns.
func TestIdleTimeoutOfSockets(t *testing.T) {
	const limit = 20 * time.Millisecond
	o := &strand.AttachOptions{TransportOptions: strand.TransportOptions{IdleTimeout: limit}}
	eachKind(t, func(t *testing.T, k kind) {
		for made := false; !made; {
			ours, _ := k.pair(t)
			r := newRecorder()
			_, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, o)
			if made = err == nil; made {
				err = r.awaitLost(t)
			}
			requireTimeout(t, err, "idle", limit)
		}
	})
}

// WriteTimeout ends a connection whose output the peer does not take; output
// is dropped, nobody is resumed.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		tr, _ := piped(t, r, writeWithin(8*time.Second))
		time.Sleep(time.Hour) // without output nothing is late
		require.False(t, tr.IsClosing())
		start := time.Now()
		mustWrite(t, tr, numbered(plenty))
		requireTimeout(t, r.awaitLost(t), "write", 8*time.Second)
		requireWithin(t, 8*time.Second, time.Since(start))
		r.wantCalls(t, "no resume", "ConnectionMade", "PauseWriting", "ConnectionLost timeout")
		require.Zero(t, tr.WriteBufferSize())
	})
}

// Progress puts WriteTimeout off, however long the whole takes; what the peer
// sends does not.
func TestWriteTimeoutCountsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		tr, peer := piped(t, r, writeWithin(8*time.Second))
		mustWrite(t, tr, numbered(plenty))
		for range plenty / (64 << 10) {
			time.Sleep(7 * time.Second)
			readN(t, peer, 64<<10)
			require.NoError(t, peer.SetReadDeadline(time.Time{}))
		}
		synctest.Wait()
		require.Zero(t, tr.WriteBufferSize())
		time.Sleep(time.Hour)
		require.False(t, tr.IsClosing(), "nothing is waiting any more")

		mustWrite(t, tr, []byte("x"))
		start := time.Now()
		var talk sync.WaitGroup
		talk.Go(func() {
			for {
				time.Sleep(time.Second)
				if _, err := peer.Write([]byte("y")); err != nil {
					return
				}
			}
		})
		requireTimeout(t, r.awaitLost(t), "write", 8*time.Second)
		requireWithin(t, 8*time.Second, time.Since(start))
		talk.Wait()
	})
}

// WriteTimeout counts in a graceful close as well: whichever limit comes first
// ends it.
func TestWriteTimeoutWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		tr, _ := piped(t, r, writeWithin(8*time.Second))
		mustWrite(t, tr, []byte("x"))
		require.NoError(t, tr.Close())
		requireTimeout(t, r.awaitLost(t), "write", 8*time.Second)
	})
}

// A limit ends a connection whose callback is blocked: its context is
// cancelled, and ConnectionLost comes when the callback returns.
func TestLimitReleasesBlockedCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		var cause error
		r.onData = func([]byte) {
			ctx := r.transport().Context()
			<-ctx.Done()
			cause = context.Cause(ctx)
		}
		_, peer := piped(t, r, idleAfter(8*time.Second))
		send(t, peer, "x")
		requireTimeout(t, r.awaitLost(t), "idle", 8*time.Second)
		requireTimeout(t, cause, "idle", 8*time.Second)
	})
}

// CallLater runs its func at its time, in turn with the callbacks, and not
// before a callback that is running has returned.
func TestCallLaterRunsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		var order []string
		r.onData = func([]byte) {
			time.Sleep(time.Minute) // a callback that takes long
			order = append(order, "data")
		}
		tr, peer := piped(t, r, func(*strand.TransportOptions) {})
		start := time.Now()
		tr.CallLater(2*time.Second, func() { order = append(order, "second") })
		tr.CallLater(time.Second, func() { order = append(order, "first") })
		stopped := tr.CallLater(time.Second, func() { order = append(order, "stopped") })
		require.True(t, stopped.Stop())
		send(t, peer, "x")
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"data", "first", "second"}, order)

		tr.CallLater(time.Hour, func() { order = append(order, time.Since(start).String()) })
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, "2h0m0s", order[3])
	})
}

// A timer inside a callback may stop another one that is due already: in turn
// there is nothing in between.
func TestStopFromCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		tr, _ := piped(t, r, func(*strand.TransportOptions) {})
		require.True(t, tr.CallSoon(func() {
			due := tr.CallLater(time.Second, func() { t.Error("it was stopped") })
			time.Sleep(time.Minute) // it fires meanwhile, and waits for its turn
			if !due.Stop() {
				t.Error("it had not run")
			}
		}))
		time.Sleep(time.Hour)
	})
}

func TestTimerWithoutStop(t *testing.T) {
	require.False(t, strand.NewTimer(nil).Stop(), "it is a stopped one")
}

// ConnectionLost stops the timers: none fires after it.
func TestNoTimerAfterLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, end := range ends {
			r := newRecorder()
			tr, _ := piped(t, r, func(*strand.TransportOptions) {})
			tr.CallLater(time.Hour, func() { t.Error("fired after the end") })
			end(tr)
			r.awaitLost(t)
			require.False(t, tr.CallLater(0, func() { t.Error("made after the end") }).Stop())
			time.Sleep(2 * time.Hour)
		}
	})
}
