package strand_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// Flow control over real connections. The rules themselves are tested in
// flowcontrol_test.go; here it is when and in which order the protocol hears of
// them. FC-13: every kind of stream has the same rules, so each test runs over
// all of them.

// marks are options with the given water marks, where 0 means 0 bytes.
func marks(high, low int) *strand.AttachOptions {
	zeroIsNegative := func(n int) int {
		if n == 0 {
			return -1
		}
		return n
	}
	return &strand.AttachOptions{TransportOptions: strand.TransportOptions{
		WriteBufferHigh: zeroIsNegative(high), WriteBufferLow: zeroIsNegative(low),
	}}
}

// FC-01: the defaults, low first.
func TestDefaultLimits(t *testing.T) {
	tr, _ := connected(t, kinds[0], newRecorder(), nil)
	low, high := tr.WriteBufferLimits()
	require.Equal(t, [2]int{16384, 65536}, [2]int{low, high})
}

// FC-01, FC-02: the options derive a mark that is zero; negative is 0 bytes.
func TestLimitsFromOptions(t *testing.T) {
	for _, tt := range []struct{ high, low, wantHigh, wantLow int }{
		{100, 0, 100, 25},
		{0, 10, 40, 10},
		{-1, 0, 0, 0},
		{100, -1, 100, 0},
	} {
		opts := &strand.AttachOptions{TransportOptions: strand.TransportOptions{WriteBufferHigh: tt.high, WriteBufferLow: tt.low}}
		tr, _ := connected(t, kinds[0], newRecorder(), opts)
		low, high := tr.WriteBufferLimits()
		require.Equal(t, [2]int{tt.wantHigh, tt.wantLow}, [2]int{high, low}, "%+v", tt)
	}
}

// FC-02, FC-03: SetWriteBufferLimits takes high first, and leaves the limits
// alone if they contradict each other. It works for ever.
func TestSetWriteBufferLimits(t *testing.T) {
	r := newRecorder()
	tr, _ := connected(t, kinds[0], r, nil)
	check := func() {
		require.NoError(t, tr.SetWriteBufferLimits(10, -1))
		low, high := tr.WriteBufferLimits()
		require.Equal(t, [2]int{2, 10}, [2]int{low, high})
		err := tr.SetWriteBufferLimits(7, 8)
		require.ErrorContains(t, err, "7")
		require.ErrorContains(t, err, "8")
		low, high = tr.WriteBufferLimits()
		require.Equal(t, [2]int{2, 10}, [2]int{low, high})
	}
	check()
	tr.Close()
	require.NoError(t, r.awaitLost(t))
	check()
}

// FC-05, FC-06: a mark that is crossed inside a callback shows at once, and is
// told right after the callback, before anything else that waits, and once.
func TestPauseComesAfterTheCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		var order []string
		r.onMade = func(tr strand.Transport) {
			tr.CallSoon(func() { order = append(order, "soon") })
			mustWrite(t, tr, numbered(plenty))
			require.False(t, tr.Writable(), "at once")
			mustWrite(t, tr, numbered(plenty))
			order = append(order, "made ends")
		}
		r.onPause = func() {
			order = append(order, "pause")
			require.Greater(t, r.transport().WriteBufferSize(), plenty, "it sees what was written")
		}
		tr, _ := narrow(t, k, r, nil)
		whenIdle(t, tr)
		require.Equal(t, []string{"made ends", "pause", "soon"}, order)
		r.wantCalls(t, "one pause", "ConnectionMade", "PauseWriting")
	})
}

// whenIdle returns once everything posted before has run.
func whenIdle(t testing.TB, tr strand.Transport) {
	t.Helper()
	done := make(chan struct{})
	require.True(t, tr.CallSoon(func() { close(done) }))
	await(t, "a func that was posted", done)
}

// FC-05: outside of a callback it is told in turn, without waiting for reading.
func TestPauseFromOutside(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, _ := backlogged(t, k, r, nil)
		require.False(t, tr.Writable())
		r.awaitCall(t, "PauseWriting")
		mustWrite(t, tr, numbered(plenty))
		whenIdle(t, tr)
		r.wantCalls(t, "FC-06: once", "ConnectionMade", "PauseWriting")
	})
}

// FC-04: as much as the high mark does not pause; one byte more does. A foreign
// conn that takes nothing makes the count exact.
func TestPauseIsStrictlyAboveTheMark(t *testing.T) {
	ours, peer := net.Pipe()
	defer peer.Close()
	r := newRecorder()
	tr := attach(t, ours, r, marks(10, 5))
	mustWrite(t, tr, make([]byte, 10))
	require.True(t, tr.Writable())
	mustWrite(t, tr, make([]byte, 1))
	require.False(t, tr.Writable())
	r.awaitCall(t, "PauseWriting")
	require.Equal(t, 11, tr.WriteBufferSize())
}

// FC-07: resume comes when the low mark is reached, once, and Writable with it.
func TestResume(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onResume = func() {
			low, _ := r.transport().WriteBufferLimits()
			require.LessOrEqual(t, r.transport().WriteBufferSize(), low)
			require.True(t, r.transport().Writable())
		}
		tr, peer := backlogged(t, k, r, nil)
		requireSame(t, numbered(plenty), readN(t, peer, plenty), "everything")
		r.awaitCall(t, "ResumeWriting")
		whenIdle(t, tr)
		r.wantCalls(t, "one pair", "ConnectionMade", "PauseWriting", "ResumeWriting")
	})
}

// FC-07, FC-09: resume waits for the low mark, to the byte: with low 0, for an
// empty buffer.
func TestResumeWaitsForTheMark(t *testing.T) {
	ours, peer := net.Pipe()
	defer peer.Close()
	r := newRecorder()
	tr := attach(t, ours, r, marks(10, 0))
	mustWrite(t, tr, make([]byte, 11)) // the writer's first piece
	mustWrite(t, tr, make([]byte, 1))  // may become its second
	r.awaitCall(t, "PauseWriting")
	readN(t, peer, 11)
	require.False(t, tr.Writable(), "one byte is left, or even all of them if they went as one")
	readN(t, peer, 1)
	r.awaitCall(t, "ResumeWriting")
	require.Zero(t, tr.WriteBufferSize())
}

// FC-07: nothing but progress resumes: no write, no limits, no close, no abort.
func TestOnlyProgressResumes(t *testing.T) {
	for _, k := range stillKinds {
		t.Run(k.name, func(t *testing.T) {
			r := newRecorder()
			tr, _ := backlogged(t, k, r, nil)
			r.awaitCall(t, "PauseWriting")
			mustWrite(t, tr, []byte("x"))
			_, err := tr.WriteLines([]byte("y"))
			require.NoError(t, err)
			require.NoError(t, tr.SetWriteBufferLimits(100*plenty, 100*plenty))
			whenIdle(t, tr)
			tr.Close()
			tr.Abort()
			require.NoError(t, r.awaitLost(t))
			r.wantCalls(t, "no resume", "ConnectionMade", "PauseWriting", "ConnectionLost nil")
		})
	}
}

// FC-08: limits lowered under a full buffer pause, raised ones resume with the
// next progress.
func TestLimitsOfAFullBuffer(t *testing.T) {
	for _, k := range stillKinds {
		t.Run(k.name, func(t *testing.T) {
			r := newRecorder()
			tr, peer := backlogged(t, k, r, marks(100*plenty, 0))
			require.True(t, tr.Writable())
			require.NoError(t, tr.SetWriteBufferLimits(1000, 0))
			require.False(t, tr.Writable())
			r.awaitCall(t, "PauseWriting")
			require.NoError(t, tr.SetWriteBufferLimits(500, 0))
			require.NoError(t, tr.SetWriteBufferLimits(100*plenty, 100*plenty))
			require.False(t, tr.Writable())
			whenIdle(t, tr)
			r.wantCalls(t, "no second pause, no resume yet", "ConnectionMade", "PauseWriting")
			readN(t, peer, plenty)
			r.awaitCall(t, "ResumeWriting")
		})
	}
}

// FC-08: inside a callback limits pause after it, like a write.
func TestLimitsInCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onMade = func(tr strand.Transport) {
			mustWrite(t, tr, numbered(plenty))
			require.True(t, tr.Writable())
			require.NoError(t, tr.SetWriteBufferLimits(0, 0))
			require.False(t, tr.Writable())
		}
		tr, _ := narrow(t, k, r, marks(100*plenty, 0))
		whenIdle(t, tr)
		r.wantCalls(t, "after made", "ConnectionMade", "PauseWriting")
	})
}

// FC-09: with high 0 a write that the kernel takes whole pauses nobody, and
// anything left does. (To a foreign conn nothing can be written at once:
// section C.)
func TestHighZero(t *testing.T) {
	for _, k := range fastKinds {
		t.Run(k.name, func(t *testing.T) {
			r := newRecorder()
			tr, peer := narrow(t, k, r, marks(0, 0))
			mustWrite(t, tr, []byte("small"))
			require.True(t, tr.Writable())
			mustWrite(t, tr, numbered(plenty))
			require.False(t, tr.Writable())
			readN(t, peer, 5+plenty)
			r.awaitCall(t, "ResumeWriting")
			require.Zero(t, tr.WriteBufferSize())
			r.wantCalls(t, "one pair", "ConnectionMade", "PauseWriting", "ResumeWriting")
		})
	}
}

// FC-09: a foreign conn with high 0 pauses for every write, and resumes once
// conn.Write has returned.
func TestHighZeroOnForeignConn(t *testing.T) {
	ours, peer := net.Pipe()
	defer peer.Close()
	r := newRecorder()
	tr := attach(t, ours, r, marks(0, 0))
	mustWrite(t, tr, []byte("x"))
	require.False(t, tr.Writable())
	r.awaitCall(t, "PauseWriting")
	readN(t, peer, 1)
	r.awaitCall(t, "ResumeWriting")
	require.True(t, tr.Writable())
}

// FC-10: a graceful close that drains the buffer resumes before the end.
func TestCloseResumesBeforeLost(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		r.awaitCall(t, "PauseWriting")
		tr.Close()
		readN(t, peer, plenty)
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "resume before lost", "ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil")
	})
}

// FC-10: a due pair that a blocked callback held up is delivered before a
// graceful end.
func TestDueEdgesComeBeforeLost(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		wrote, drained := make(chan struct{}), make(chan struct{})
		r.onMade = func(tr strand.Transport) {
			mustWrite(t, tr, numbered(plenty))
			tr.Close()
			close(wrote)
			<-drained
		}
		ours, peer := k.pair(t)
		narrowConns(t, ours, peer)
		go func() {
			defer close(drained)
			<-wrote
			readN(t, peer, plenty)
		}()
		attach(t, ours, r, nil)
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "the pair, late", "ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil")
	})
}

// FC-10: Abort tells nobody of edges that were still due.
func TestAbortDropsDueEdges(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onMade = func(tr strand.Transport) {
			mustWrite(t, tr, numbered(plenty))
			tr.Abort()
		}
		narrow(t, k, r, nil)
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "no edges", "ConnectionMade", "ConnectionLost nil")
	})
}

// FC-11: a write in PauseWriting only appends.
func TestWriteInPauseWriting(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onPause = func() { mustWrite(t, r.transport(), numbered(1000)) }
		tr, peer := backlogged(t, k, r, nil)
		want := append(numbered(plenty), numbered(1000)...)
		requireSame(t, want, readN(t, peer, len(want)), "in order")
		r.awaitCall(t, "ResumeWriting")
		whenIdle(t, tr)
		r.wantCalls(t, "one pair", "ConnectionMade", "PauseWriting", "ResumeWriting")
	})
}

// FC-11: a write in ResumeWriting may cross the mark again: a new pause follows
// after the callback (asyncio would nest it).
func TestWriteInResumeWriting(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		const rounds = 3
		r := newRecorder()
		arrived, written := make(chan struct{}, rounds), make(chan struct{}, rounds)
		left := rounds
		r.onResume = func() {
			await(t, "a whole round at the peer", arrived) // nobody reads while the next round is written
			if left--; left > 0 {
				mustWrite(t, r.transport(), numbered(plenty))
				require.False(t, r.transport().Writable())
			}
			written <- struct{}{}
		}
		_, peer := backlogged(t, k, r, marks(1000, 0))
		want := []string{"ConnectionMade"}
		for range rounds {
			requireSame(t, numbered(plenty), readN(t, peer, plenty), "a round")
			arrived <- struct{}{}
			await(t, "the next round", written)
			want = append(want, "PauseWriting", "ResumeWriting")
		}
		r.await(t, "all rounds", func() bool { return len(r.calls) >= len(want) })
		r.wantCalls(t, "pairs", want...)
	})
}

// FC-11: Close and Abort may be called in both.
func TestEndInFlowCallbacks(t *testing.T) {
	for name, end := range map[string]func(strand.Transport){
		"Close": func(tr strand.Transport) { tr.Close() },
		"Abort": strand.Transport.Abort,
	} {
		t.Run(name+" in PauseWriting", func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				r := newRecorder()
				r.onPause = func() { end(r.transport()) }
				_, peer := backlogged(t, k, r, nil)
				got := readAll(t, peer)
				require.NoError(t, r.awaitLost(t))
				want := []string{"ConnectionMade", "PauseWriting", "ConnectionLost nil"}
				if name == "Close" {
					requireSame(t, numbered(plenty), got, "flushed")
					want = []string{"ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil"}
				}
				r.wantCalls(t, "the end", want...)
			})
		})
		t.Run(name+" in ResumeWriting", func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				r := newRecorder()
				r.onResume = func() { end(r.transport()) }
				_, peer := backlogged(t, k, r, marks(1000, 0)) // low 0: everything is out when Abort comes
				readN(t, peer, plenty)
				require.NoError(t, r.awaitLost(t))
				r.wantCalls(t, "the end", "ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil")
			})
		})
	}
}

// FC-12: being paused belongs to the transport: the new protocol gets the
// resume for the pause that the old one saw.
func TestResumeGoesToTheNewProtocol(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		old, replacement := newRecorder(), newRecorder()
		tr, peer := backlogged(t, k, old, nil)
		old.awaitCall(t, "PauseWriting")
		tr.SetProtocol(replacement)
		readN(t, peer, plenty)
		replacement.awaitCall(t, "ResumeWriting")
		require.Equal(t, []string{"ResumeWriting"}, replacement.trace())
		require.Equal(t, []string{"ConnectionMade", "PauseWriting"}, old.trace())
	})
}

// Law 4: with writers and a reader at full speed the edges alternate, beginning
// with a pause, and at the end everybody may write.
func TestEdgesAlternateUnderLoad(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		const writers, writes = 3, 300
		r := newRecorder()
		tr, peer := narrow(t, k, r, marks(2000, 500))
		errs := make(chan error, writers)
		for range writers {
			go func() {
				for range writes {
					if _, err := tr.Write(numbered(1500)); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		readN(t, peer, writers*writes*1500)
		for range writers {
			require.NoError(t, await(t, "a writer", errs))
		}
		r.await(t, "as many resumes as pauses", func() bool { return len(r.calls)%2 == 1 && tr.Writable() })
		for i, call := range r.trace()[1:] {
			require.Equal(t, []string{"PauseWriting", "ResumeWriting"}[i%2], call, fmt.Sprint("edge ", i))
		}
	})
}

// FC-07: what a peer answers to the end of the output that a pause was about
// comes after ResumeWriting, although the writer and the reader are two
// goroutines. A foreign conn's Write may return after the answer has come.
func TestResumeComesBeforeTheAnswer(t *testing.T) {
	for _, k := range kinds[:2] {
		for _, buffered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, buffered %v", k.name, buffered), func(t *testing.T) {
				r := newRecorder()
				pausing, early := false, 0
				r.onPause = func() { pausing = true }
				r.onResume = func() { pausing = false }
				answered := func() {
					if pausing {
						early++
					}
				}
				r.onData = func([]byte) { answered() }
				tr, peer := narrow(t, k, r, marks(0, 0))
				if buffered {
					tr.SetProtocol(&bufferedRecorder{recorder: r, onUpdated: func(int) { answered() }})
				}
				for i := range rounds / 20 {
					require.True(t, tr.CallSoon(func() { mustWrite(t, tr, numbered(plenty)) }))
					readN(t, peer, plenty)
					_, err := peer.Write([]byte{'x'})
					require.NoError(t, err)
					r.awaitData(t, i+1)
				}
				whenIdle(t, tr)
				require.Zero(t, early, "answers to output that was still being paused for")
			})
		}
	}
}

// The proxy of the examples stops receiving when the other side holds enough, also
// while that side's callbacks are held up and its PauseWriting with them, and goes
// on afterwards.
func TestProxyHoldsTheMarkAndAReceive(t *testing.T) {
	source, ours := tcpPair(t)
	theirs, sink := tcpPair(t)
	require.NoError(t, theirs.(*net.TCPConn).SetWriteBuffer(16<<10))
	require.NoError(t, sink.(*net.TCPConn).SetReadBuffer(16<<10))
	in, out := new(Side), new(Side)
	ctx := context.Background()
	to, _, err := strand.Attach(ctx, theirs, func() *Side { return out }, nil)
	require.NoError(t, err)
	in.other = to
	from, _, err := strand.Attach(ctx, ours, func() *Side { return in }, nil)
	require.NoError(t, err)
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	t.Cleanup(release)
	require.True(t, to.CallSoon(func() { out.other = from; <-held }))

	const more = 4 << 20 // than this network holds
	sent := make(chan error, 1)
	go func() {
		_, err := source.Write(numbered(more))
		sent <- err
	}()
	const most = 64<<10 + 256<<10
	require.Eventually(t, func() bool { return !from.IsReading() || to.WriteBufferSize() > most }, patience, time.Millisecond)
	require.LessOrEqual(t, to.WriteBufferSize(), most)

	release()
	requireSame(t, numbered(more), readN(t, sink, more), "what comes through")
	require.NoError(t, await(t, "the source", sent))
	to.Abort()
	await(t, "the end", to.Done())
	await(t, "the end of the other side", from.Done())
}
