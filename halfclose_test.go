package strand_test

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// HC-01: sockets can, and so can a foreign conn that has CloseWrite.
func TestCanWriteEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		tr, _ := connected(t, k, newRecorder(), nil)
		require.True(t, tr.CanWriteEOF())
	})
}

// HC-01: net.Pipe cannot half-close; that harms nothing.
func TestWriteEOFUnsupported(t *testing.T) {
	ours, peer := net.Pipe()
	defer peer.Close()
	tr := attach(t, ours, newRecorder(), nil)
	require.False(t, tr.CanWriteEOF())
	require.ErrorIs(t, tr.WriteEOF(), errors.ErrUnsupported)
	mustWrite(t, tr, []byte("still open"))
	require.Equal(t, "still open", string(readN(t, peer, 10)))
}

// HC-02, HC-04: with nothing buffered the peer sees the end at once, while
// receiving goes on and the connection is not closing.
func TestWriteEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		require.NoError(t, tr.WriteEOF())
		require.Empty(t, readAll(t, peer))
		requireRefused(t, tr, strand.ErrWriteAfterEOF)
		require.False(t, tr.IsClosing())
		require.True(t, tr.IsReading())
		_, err := peer.Write([]byte("and you?"))
		require.NoError(t, err)
		r.awaitData(t, 8)
		require.NoError(t, peer.Close())
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "the peer's EOF closes as ever", "ConnectionMade", "DataReceived 8", "EOFReceived", "ConnectionLost nil")
	})
}

// HC-02: behind a backlog the end comes right after the last byte.
func TestWriteEOFAfterBacklog(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		require.NoError(t, tr.WriteEOF())
		require.Positive(t, tr.WriteBufferSize(), "nothing of it is lost")
		requireRefused(t, tr, strand.ErrWriteAfterEOF)
		requireSame(t, numbered(plenty), readAll(t, peer), "everything, then EOF")
		require.False(t, tr.IsClosing())
		_, err := peer.Write([]byte("got it"))
		require.NoError(t, err)
		r.awaitData(t, 6)
	})
}

// HC-03: a second WriteEOF does nothing.
func TestWriteEOFIsIdempotent(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		tr, peer := backlogged(t, k, newRecorder(), nil)
		for range 3 {
			require.NoError(t, tr.WriteEOF())
		}
		requireSame(t, numbered(plenty), readAll(t, peer), "everything, once")
		require.NoError(t, tr.WriteEOF())
	})
}

// HC-03: on a closing connection WriteEOF does nothing: writes go on being
// refused as closed, not as after WriteEOF.
func TestWriteEOFWhileClosing(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		tr.Close()
		require.NoError(t, tr.WriteEOF())
		_, err := tr.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
		require.NotErrorIs(t, err, strand.ErrWriteAfterEOF)
		requireSame(t, numbered(plenty), readAll(t, peer), "the flush goes on")
		require.NoError(t, r.awaitLost(t))
		require.NoError(t, tr.WriteEOF())
	})
}

// HC-05: Close after WriteEOF still flushes.
func TestCloseAfterWriteEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		require.NoError(t, tr.WriteEOF())
		tr.Close()
		require.True(t, tr.IsClosing())
		requireSame(t, numbered(plenty), readAll(t, peer), "everything")
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "a clean end", "ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil")
	})
}

// HC-05: with nothing pending Close after WriteEOF ends at once.
func TestCloseAfterIdleWriteEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		require.NoError(t, tr.WriteEOF())
		tr.Close()
		require.NoError(t, r.awaitLost(t))
		require.Empty(t, readAll(t, peer))
	})
}

// HC-02: abort after WriteEOF drops what is pending.
func TestAbortAfterWriteEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		require.NoError(t, tr.WriteEOF())
		tr.Abort()
		require.NoError(t, r.awaitLost(t))
		require.Less(t, len(readAll(t, peer)), plenty)
	})
}
