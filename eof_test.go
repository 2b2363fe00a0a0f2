package strand_test

import (
	"bytes"
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// EO-01, EO-02: all bytes, then the end of file once, and then the connection
// closes by itself.
func TestEOFComesAfterAllData(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		const size = 1 << 20
		r := newRecorder()
		_, peer := connected(t, k, r, nil)
		_, err := peer.Write(numbered(size))
		require.NoError(t, err)
		closeWrite(t, peer)
		require.NoError(t, r.awaitLost(t))
		require.True(t, bytes.Equal(numbered(size), r.received()))
		calls := r.trace()
		require.Equal(t, []string{"EOFReceived", "ConnectionLost nil"}, calls[len(calls)-2:])
		require.Len(t, calls, 4)
	})
}

// EO-01: an end of file alone, and one that waits when the connection is made.
func TestEOFAlone(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		closeWrite(t, peer)
		r := newRecorder()
		attach(t, ours, r, nil)
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "no data", "ConnectionMade", "EOFReceived", "ConnectionLost nil")
	})
}

// EO-02: what was waiting to go out is flushed before the automatic close.
func TestEOFCloseFlushes(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		closeWrite(t, peer)
		r.awaitCall(t, "EOFReceived")
		require.NotZero(t, tr.WriteBufferSize())
		require.Len(t, readAll(t, peer), plenty)
		require.NoError(t, r.awaitLost(t))
	})
}

// EO-03: returning true keeps the connection open for writing until Close.
func TestEOFKeptOpen(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onEOF = func() bool { return true }
		tr, peer := backlogged(t, k, r, nil)
		closeWrite(t, peer)
		r.awaitCall(t, "EOFReceived")
		require.False(t, tr.IsClosing())
		readN(t, peer, plenty)
		settle(t)
		require.NotContains(t, r.trace(), "ConnectionLost nil")
		_, err := tr.Write([]byte("bye"))
		require.NoError(t, err)
		require.NoError(t, tr.Close())
		require.Equal(t, "bye", string(readAll(t, peer)))
		require.NoError(t, r.awaitLost(t))
	})
}

// EO-04: what EOFReceived writes is sent before the automatic close, much or
// little.
func TestWriteInEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for _, size := range []int{5, plenty} {
			r := newRecorder()
			r.onEOF = func() bool {
				r.transport().Write(numbered(size))
				return false
			}
			_, peer := narrow(t, k, r, nil)
			closeWrite(t, peer)
			require.True(t, bytes.Equal(numbered(size), readAll(t, peer)))
			require.NoError(t, r.awaitLost(t))
		}
	})
}

// EO-05: Close inside EOFReceived counts, whatever it returns.
func TestCloseInEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onEOF = func() bool {
			r.transport().Close()
			return true
		}
		_, peer := connected(t, k, r, nil)
		closeWrite(t, peer)
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "one end", "ConnectionMade", "EOFReceived", "ConnectionLost nil")
	})
}

// EO-06: after a kept-open end of file nobody reads any more, so the peer's
// full close shows only when a write fails.
func TestPeerGoneAfterKeptEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onEOF = func() bool { return true }
		tr, peer := connected(t, k, r, nil)
		closeWrite(t, peer)
		r.awaitCall(t, "EOFReceived")
		require.NoError(t, peer.Close())
		settle(t)
		require.False(t, tr.IsClosing())
		for !tr.IsClosing() { // the first write makes the peer send its reset
			tr.Write([]byte("x"))
			settle(t)
		}
		require.Contains(t, []string{"EPIPE", "ECONNRESET"}, errName(r.awaitLost(t)))
	})
}

// EO-07: both directions closed by word is not the end: Close is.
func TestWriteEOFAndKeptEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onEOF = func() bool { return true }
		tr, peer := connected(t, k, r, nil)
		require.NoError(t, tr.WriteEOF())
		closeWrite(t, peer)
		require.Empty(t, readAll(t, peer))
		r.awaitCall(t, "EOFReceived")
		settle(t)
		require.False(t, tr.IsClosing())
		require.NoError(t, tr.Close())
		require.NoError(t, r.awaitLost(t))
	})
}

// EO-07: an EOFReceived that returns false after WriteEOF closes.
func TestWriteEOFAndEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		require.NoError(t, tr.WriteEOF())
		closeWrite(t, peer)
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "closed by the end of file", "ConnectionMade", "EOFReceived", "ConnectionLost nil")
	})
}

// EO-08: at most one EOFReceived, however often reading is paused and resumed
// after it. EO-09: a protocol that comes later does not get one of its own.
func TestEOFIsToldOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r, later := newRecorder(), newRecorder()
		r.onEOF = func() bool { return true }
		tr, peer := connected(t, k, r, nil)
		closeWrite(t, peer)
		r.awaitCall(t, "EOFReceived")
		for range 3 {
			tr.PauseReading()
			tr.ResumeReading()
			settle(t)
		}
		later.ConnectionMade(tr) // SetProtocol makes no call; the recorder wants one
		tr.SetProtocol(later)
		tr.PauseReading()
		tr.ResumeReading()
		settle(t)
		require.NoError(t, tr.Close())
		require.NoError(t, later.awaitLost(t))
		require.Equal(t, []string{"ConnectionMade", "EOFReceived"}, r.trace())
		later.wantCalls(t, "only the end", "ConnectionMade", "ConnectionLost nil")
	})
}

// Data and the end of file that arrive together, while nobody waits for them
// or while the last callback still runs, wake the reader once at most. Neither
// may be lost.
func TestDataAndEOFTogether(t *testing.T) {
	if testing.Short() {
		t.Skip("many connections")
	}
	eachKind(t, func(t *testing.T, k kind) {
		ln := listen(t, k)
		t.Run("while parked", func(t *testing.T) {
			for range rounds / 4 {
				dataAndEOF(t, ln, false)
			}
		})
		t.Run("while a callback runs", func(t *testing.T) {
			for range rounds / 4 {
				dataAndEOF(t, ln, true)
			}
		})
	})
}

// endpoint is where a listener accepts connections of a kind.
type endpoint struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

// listen prepares for many connections of one kind.
func listen(t *testing.T, k kind) endpoint {
	e := endpoint{wrap: func(c net.Conn) net.Conn { return c }}
	network, address := "tcp", "127.0.0.1:0"
	switch k.name {
	case "unix":
		network, address = "unix", shortTempDir(t)+"/s"
	case "portable":
		e.wrap = func(c net.Conn) net.Conn { return foreign{c} }
	}
	var err error
	e.Listener, err = net.Listen(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { e.Close() })
	return e
}

func (e endpoint) pair(t *testing.T) (ours, peer net.Conn) {
	peer, err := net.Dial(e.Addr().Network(), e.Addr().String())
	require.NoError(t, err)
	ours, err = e.Accept()
	require.NoError(t, err)
	return e.wrap(ours), peer
}

// dataAndEOF has the peer send a message and its end of file behind it, during
// the callback of an earlier message or without one.
func dataAndEOF(t *testing.T, e endpoint, inCallback bool) {
	ours, peer := e.pair(t)
	defer peer.Close()
	r := newRecorder()
	entered, release := make(chan struct{}), make(chan struct{})
	if inCallback {
		r.onData = func([]byte) {
			if entered != nil {
				close(entered)
				entered = nil
				<-release
			}
		}
	}
	entering := entered
	_, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, nil)
	require.NoError(t, err)
	want := "last"
	if inCallback {
		want = "first last"
		send(t, peer, "first ")
		<-entering
	}
	send(t, peer, "last")
	closeWrite(t, peer)
	close(release)
	require.NoError(t, r.awaitLost(t))
	require.Equal(t, want, string(r.received()))
	calls := r.trace()
	require.Equal(t, []string{"EOFReceived", "ConnectionLost nil"}, calls[len(calls)-2:])
}
