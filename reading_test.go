package strand_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// pump writes data to the other end, on a goroutine of its own.
func pump(peer net.Conn, data []byte) {
	go func() {
		for len(data) > 0 {
			n, err := peer.Write(data)
			if err != nil {
				return // the test is over
			}
			data = data[n:]
		}
	}()
}

// RD-01: never nothing, never more than 256 KiB, whole and in order.
func TestChunks(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		const size = 4 << 20
		largest := 0
		var got bytes.Buffer
		done := make(chan struct{})
		r := newRecorder()
		r.onData = func(data []byte) {
			largest = max(largest, len(data))
			if got.Write(data); got.Len() == size {
				close(done)
			}
		}
		_, peer := connected(t, k, r, nil)
		pump(peer, numbered(size))
		await(t, "all data", done)
		require.LessOrEqual(t, largest, 256<<10)
		require.True(t, bytes.Equal(numbered(size), got.Bytes()), "the bytes that were sent")
	})
}

// RD-02: paused, nothing is delivered, neither data nor the end of file. It
// all comes with ResumeReading.
func TestPausedDeliversNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		tr.PauseReading()
		send(t, peer, "held")
		closeWrite(t, peer)
		settle(t)
		require.Equal(t, []string{"ConnectionMade"}, r.trace())
		tr.ResumeReading()
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "all of it, in order",
			"ConnectionMade", "DataReceived 4", "EOFReceived", "ConnectionLost nil")
	})
}

// RD-02: a reset is not noticed either while reading is paused. RD-10: the
// next Write notices it.
func TestPausedResetIsNoticedByWrite(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[2]} {
		t.Run(k.name, func(t *testing.T) {
			r := newRecorder()
			tr, peer := connected(t, k, r, nil)
			tr.PauseReading()
			reset(t, peer)
			settle(t)
			require.Equal(t, []string{"ConnectionMade"}, r.trace())
			require.False(t, tr.IsClosing())
			tr.Write([]byte("x"))                     // the fast path refuses it, the portable one fails a moment later
			require.True(t, isHangup(r.awaitLost(t))) // a read under way may have taken the reset for itself
			require.NotContains(t, r.trace(), "EOFReceived")
		})
	}
}

// RD-02, RD-10: with ResumeReading it is noticed as well.
func TestPausedResetIsNoticedByResume(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[2]} {
		t.Run(k.name, func(t *testing.T) {
			r := newRecorder()
			tr, peer := connected(t, k, r, nil)
			tr.PauseReading()
			reset(t, peer)
			settle(t)
			require.Equal(t, []string{"ConnectionMade"}, r.trace())
			tr.ResumeReading()
			require.ErrorIs(t, r.awaitLost(t), syscall.ECONNRESET)
		})
	}
}

// RD-10: a transport with output waiting notices a reset at once, paused or
// not.
func TestPausedResetIsNoticedByWaitingOutput(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[2]} {
		t.Run(k.name, func(t *testing.T) {
			r := newRecorder()
			tr, peer := backlogged(t, k, r, nil)
			tr.PauseReading()
			reset(t, peer)
			require.Error(t, r.awaitLost(t))
			require.NotContains(t, r.trace(), "ResumeWriting")
		})
	}
}

// RD-02: nothing is read from the kernel, so the peer has to stop sending.
func TestPauseStopsThePeer(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, theirs := k.pair(t)
		require.NoError(t, theirs.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(64<<10))
		r := newRecorder()
		tr := attach(t, ours, r, nil)
		tr.PauseReading()
		peer := attach(t, theirs, newRecorder(), nil)
		sent, err := peer.Write(make([]byte, plenty))
		require.NoError(t, err)
		for range 10 { // more than the kernel could have moved meanwhile
			settle(t)
			n, err := peer.Write(make([]byte, 1))
			require.NoError(t, err)
			sent += n
		}
		require.NotZero(t, peer.WriteBufferSize(), "the peer cannot get rid of it")
		require.Empty(t, r.received())
		tr.ResumeReading()
		r.awaitData(t, sent)
		require.Len(t, r.received(), sent)
	})
}

// RD-02: a read that was waiting when PauseReading came brings nothing
// afterwards, however the two meet: exact, because the bubble knows when
// everybody waits.
func TestPauseAgainstParkedRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		defer peer.Close()
		r := newRecorder()
		tr := attach(t, ours, r, nil)
		synctest.Wait() // the reader is in Read
		tr.PauseReading()
		go peer.Write([]byte("held"))
		synctest.Wait()
		require.Equal(t, []string{"ConnectionMade"}, r.trace())
		tr.ResumeReading()
		synctest.Wait()
		require.Equal(t, []string{"ConnectionMade", "DataReceived 4"}, r.trace())
	})
}

// A foreign conn without deadlines cannot be woken. The chunk that its Read
// brings while paused is kept, and delivered on resume.
func TestPauseHoldsTheChunkOfADeafConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		r := newRecorder()
		tr := attach(t, deafConn{ours}, r, nil)
		synctest.Wait()
		tr.PauseReading()
		send(t, peer, "held")
		peer.Close()
		synctest.Wait()
		require.Equal(t, []string{"ConnectionMade"}, r.trace())
		tr.ResumeReading()
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "nothing was lost", "ConnectionMade", "DataReceived 4", "EOFReceived", "ConnectionLost nil")
	})
}

// deafConn refuses deadlines.
type deafConn struct{ net.Conn }

func (deafConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (deafConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (deafConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// A conn that cannot be woken is still left: Close and Abort close it under
// the Read.
func TestEndOfADeafConn(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, peer := net.Pipe()
				defer peer.Close()
				r := newRecorder()
				tr := attach(t, deafConn{ours}, r, nil)
				synctest.Wait()
				end(tr)
				require.NoError(t, r.awaitLost(t))
			})
		})
	}
}

// RD-03: idempotent, also after the end.
func TestPauseAndResumeTwice(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		tr.ResumeReading()
		tr.PauseReading()
		tr.PauseReading()
		require.False(t, tr.IsReading())
		tr.ResumeReading()
		tr.ResumeReading()
		require.True(t, tr.IsReading())
		send(t, peer, "x")
		r.awaitData(t, 1)
		tr.Abort()
		r.awaitLost(t)
		tr.PauseReading()
		tr.ResumeReading()
		require.False(t, tr.IsReading())
	})
}

// RD-03: ResumeReading after Close, while output is still going out, reads
// nothing.
func TestResumeWhileFlushing(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		tr.PauseReading()
		require.NoError(t, tr.Close())
		send(t, peer, "late")
		tr.ResumeReading()
		require.False(t, tr.IsReading())
		settle(t)
		io.Copy(io.Discard, peer) // closing with unread input may reset the connection
		require.NoError(t, r.awaitLost(t))
		require.Empty(t, r.received())
	})
}

// RD-04: reading is exactly "not closing and not paused", which a kept-open
// end of file does not change.
func TestIsReading(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onEOF = func() bool { return true }
		tr, peer := connected(t, k, r, nil)
		require.True(t, tr.IsReading())
		tr.PauseReading()
		require.False(t, tr.IsReading())
		tr.ResumeReading()
		require.True(t, tr.IsReading())
		closeWrite(t, peer)
		r.awaitCall(t, "EOFReceived")
		require.True(t, tr.IsReading())
		tr.PauseReading()
		require.False(t, tr.IsReading())
		tr.ResumeReading()
		tr.Close()
		require.False(t, tr.IsReading())
	})
}

// RD-02: what arrives after PauseReading returned is not delivered, though the
// reader may have been about to receive. Over and over, because that is rare.
func TestPauseHoldsWhatArrivesLater(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		var paused atomic.Bool
		r.onData = func([]byte) {
			if paused.Load() {
				t.Error("delivered while paused")
			}
		}
		for i := range rounds / 4 {
			send(t, peer, "x") // the reader is busy with this one
			tr.PauseReading()
			whenIdle(t, tr)
			paused.Store(true)
			send(t, peer, "y")
			whenIdle(t, tr)
			paused.Store(false)
			tr.ResumeReading()
			r.awaitData(t, 2*i+2)
		}
	})
}

// RD-05: ResumeReading delivers nothing itself: the caller may hold a lock
// that DataReceived takes.
func TestResumeIsNotSynchronous(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		tr.PauseReading()
		send(t, peer, "held")
		var order []string
		r.onData = func([]byte) { order = append(order, "data") }
		require.True(t, tr.CallSoon(func() {
			tr.ResumeReading()
			order = append(order, "resumed")
		}))
		r.awaitData(t, 4)
		tr.Abort()
		r.awaitLost(t)
		require.Equal(t, []string{"resumed", "data"}, order)
	})
}

// RD-06: PauseReading inside DataReceived stops delivery after that chunk.
func TestPauseInDataReceived(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onData = func([]byte) { r.transport().PauseReading() }
		tr, peer := connected(t, k, r, nil)
		send(t, peer, "one")
		r.awaitData(t, 3)
		whenIdle(t, tr)
		send(t, peer, "two")
		closeWrite(t, peer)
		settle(t)
		require.Equal(t, []string{"ConnectionMade", "DataReceived 3"}, r.trace())
		tr.ResumeReading()
		r.awaitData(t, 6)
		whenIdle(t, tr)
		settle(t)
		require.Equal(t, []string{"ConnectionMade", "DataReceived 6"}, r.trace(), "paused by the second chunk again")
		tr.ResumeReading()
		require.NoError(t, r.awaitLost(t))
	})
}

// RD-06: Pause and Resume in one callback leave reading on.
func TestPauseAndResumeInDataReceived(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onData = func([]byte) {
			r.transport().PauseReading()
			r.transport().ResumeReading()
		}
		_, peer := connected(t, k, r, nil)
		for i := range 10 {
			send(t, peer, "x")
			r.awaitData(t, i+1)
		}
		closeWrite(t, peer)
		require.NoError(t, r.awaitLost(t))
	})
}

// RD-05, RD-06: pausing in every callback and resuming from elsewhere, again
// and again, loses no wake-up and no byte.
func TestPauseAndResumeRace(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		n := rounds / 10
		resume := make(chan struct{}, 1)
		r := newRecorder()
		r.onData = func([]byte) {
			r.transport().PauseReading()
			select {
			case resume <- struct{}{}:
			default:
			}
		}
		tr, peer := connected(t, k, r, nil)
		stop := make(chan struct{})
		var resumer sync.WaitGroup
		resumer.Go(func() {
			for {
				select {
				case <-resume:
					tr.ResumeReading()
				case <-stop:
					return
				}
			}
		})
		for i := range n {
			send(t, peer, "x")
			r.awaitData(t, i+1)
		}
		close(stop)
		resumer.Wait()
	})
}

// RD-07: a read that has nothing to bring is no error: messages come one at a
// time, so that after each the socket is empty.
func TestEmptySocketIsNoError(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		for i := range 100 {
			send(t, peer, "x")
			r.awaitData(t, i+1)
		}
		require.False(t, tr.IsClosing())
	})
}

// RD-07: nor is a deadline that somebody else has set on the conn.
func TestForeignDeadlineIsNoError(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		r := newRecorder()
		attach(t, ours, r, nil)
		for i := range 10 {
			require.NoError(t, ours.SetReadDeadline(time.Unix(1, 0)))
			send(t, peer, "x")
			r.awaitData(t, i+1)
		}
	})
}

// Attach clears the deadlines that the conn comes with.
func TestAttachClearsDeadlines(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		require.NoError(t, ours.SetDeadline(time.Unix(1, 0)))
		r := newRecorder()
		tr := attach(t, ours, r, nil)
		send(t, peer, "x")
		r.awaitData(t, 1)
		_, err := tr.Write([]byte("y"))
		require.NoError(t, err)
		_, err = io.ReadFull(peer, make([]byte, 1))
		require.NoError(t, err)
	})
}

// RD-08: a receive error ends the connection with that error, without
// EOFReceived, and what was waiting to go out is dropped.
func TestReceiveError(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[2]} {
		t.Run(k.name, func(t *testing.T) {
			r := newRecorder()
			tr, peer := connected(t, k, r, nil)
			reset(t, peer)
			err := r.awaitLost(t)
			require.ErrorIs(t, err, syscall.ECONNRESET)
			var op *net.OpError
			require.ErrorAs(t, err, &op)
			require.Equal(t, "read", op.Op)
			require.Equal(t, tr.LocalAddr(), op.Source)
			require.Equal(t, tr.RemoteAddr(), op.Addr)
			r.wantCalls(t, "no end of file", "ConnectionMade", "ConnectionLost ECONNRESET")
		})
	}
}

// RD-08: pending output is dropped.
func TestReceiveErrorDropsOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		conn := newFaultyConn(t)
		r := newRecorder()
		tr := attach(t, &halfBroken{faultyConn: conn, release: make(chan struct{})}, r, nil)
		_, err := tr.Write(make([]byte, 1000))
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 1000, tr.WriteBufferSize())
		conn.fail(broken)
		require.ErrorIs(t, r.awaitLost(t), broken)
		require.Zero(t, tr.WriteBufferSize())
		r.wantCalls(t, "an error of any type, as it is", "ConnectionMade", "ConnectionLost broken")
	})
}

// halfBroken takes no output.
type halfBroken struct {
	*faultyConn
	once    sync.Once
	release chan struct{}
}

func (c *halfBroken) Write([]byte) (int, error) {
	<-c.release
	return 0, net.ErrClosed
}

func (c *halfBroken) Close() error {
	c.once.Do(func() { close(c.release) })
	return c.faultyConn.Close()
}

// RD-09: bytes that arrived before the reset are delivered before it.
func TestDataBeforeReset(t *testing.T) {
	if testing.Short() {
		t.Skip("many connections")
	}
	for _, k := range []kind{kinds[0], kinds[2]} {
		t.Run(k.name, func(t *testing.T) {
			for range rounds / 20 {
				dataBeforeReset(t, k)
			}
		})
	}
}

func dataBeforeReset(t *testing.T, k kind) {
	r := newRecorder()
	tr, peer := connected(t, k, r, nil)
	tr.PauseReading() // so that the reset meets bytes that are not read
	send(t, peer, "last words")
	reset(t, peer)
	tr.ResumeReading()
	require.ErrorIs(t, r.awaitLost(t), syscall.ECONNRESET)
	require.Equal(t, "last words", string(r.received()))
}

// RD-09: also when both come while a callback runs.
func TestDataAndResetDuringCallback(t *testing.T) {
	if testing.Short() {
		t.Skip("many connections")
	}
	for _, k := range []kind{kinds[0], kinds[2]} {
		t.Run(k.name, func(t *testing.T) {
			ln := listen(t, k)
			for range rounds / 10 {
				dataAndReset(t, ln)
			}
		})
	}
}

func dataAndReset(t *testing.T, e endpoint) {
	ours, peer := e.pair(t)
	r := newRecorder()
	entered, release := make(chan struct{}, 2), make(chan struct{})
	r.onData = func([]byte) {
		entered <- struct{}{}
		<-release
	}
	_, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, nil)
	require.NoError(t, err)
	send(t, peer, "first ")
	<-entered
	send(t, peer, "last")
	reset(t, peer)
	close(release)
	require.ErrorIs(t, r.awaitLost(t), syscall.ECONNRESET)
	require.Equal(t, "first last", string(r.received()))
}

// RD-11: after Close, also while it flushes, and after Abort nothing is
// delivered, whatever the peer sends.
func TestNothingAfterClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		require.NoError(t, tr.Close())
		send(t, peer, "late")
		closeWrite(t, peer)
		settle(t)
		require.NotContains(t, r.trace(), "ConnectionLost nil", "it is flushing")
		io.Copy(io.Discard, peer) // closing with unread input may reset the connection
		require.NoError(t, r.awaitLost(t))
		require.Empty(t, r.received())
		require.NotContains(t, r.trace(), "EOFReceived")
	})
}

// RD-11: the rest of what the kernel holds is not delivered after a Close or
// Abort in DataReceived.
func TestNothingAfterEndInDataReceived(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for name, end := range ends {
			var calls atomic.Int32
			r := newRecorder()
			r.onData = func([]byte) {
				calls.Add(1)
				end(r.transport())
			}
			ours, peer := k.pair(t)
			pump(peer, make([]byte, plenty)) // more than one chunk
			attach(t, ours, r, nil)
			require.NoError(t, r.awaitLost(t))
			require.EqualValues(t, 1, calls.Load(), name)
			peer.Close()
		}
	})
}

// Data that a foreign Read returns together with an error comes first.
func TestDataTogetherWithError(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want []string
	}{
		{io.EOF, []string{"ConnectionMade", "DataReceived 4", "EOFReceived", "ConnectionLost nil"}},
		{errors.New("broken"), []string{"ConnectionMade", "DataReceived 4", "ConnectionLost broken"}},
	} {
		ours, peer := net.Pipe()
		r := newRecorder()
		attach(t, &oneRead{Conn: ours, data: "last", err: tt.err}, r, nil)
		r.awaitLost(t)
		r.wantCalls(t, tt.err.Error(), tt.want...)
		peer.Close()
	}
}

// oneRead answers every Read with data and an error at once.
type oneRead struct {
	net.Conn
	data string
	err  error
}

func (c *oneRead) Read(p []byte) (int, error) { return copy(p, c.data), c.err }

// The chunk and the error that a Read brought together are both held by a
// pause in between.
func TestPauseBetweenDataAndError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		defer peer.Close()
		r := newRecorder()
		r.onData = func([]byte) { r.transport().PauseReading() }
		tr := attach(t, &oneRead{Conn: ours, data: "last", err: io.EOF}, r, nil)
		synctest.Wait()
		require.Equal(t, []string{"ConnectionMade", "DataReceived 4"}, r.trace())
		tr.ResumeReading()
		require.NoError(t, r.awaitLost(t))
	})
}

// Nothing of a conn is used after its end: descriptors are not left open.
func TestNoDescriptorIsLeft(t *testing.T) {
	before := openDescriptors(t)
	for _, k := range kinds {
		ours, peer := k.pair(t)
		r := newRecorder()
		tr, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, nil)
		require.NoError(t, err)
		assert.Greater(t, openDescriptors(t), before)
		tr.Close()
		r.awaitLost(t)
		peer.Close()
	}
	requireDescriptors(t, before)
}
