package strand_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// bigData is what no socket's buffers hold.
var bigData = sync.OnceValue(func() []byte {
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	return data
})

// bigFile is a file of bigData.
func bigFile(t *testing.T) (*os.File, []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "big")
	require.NoError(t, os.WriteFile(path, bigData(), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f, bigData()
}

// position is where f would be read next.
func position(t *testing.T, f *os.File) int64 {
	t.Helper()
	at, err := f.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	return at
}

// sendfileKinds are the kinds, and TLS over TCP. Over the fast ones the kernel
// sends, over the others the file is copied (SF-07).
func sendfileKinds(t *testing.T, test func(t *testing.T, tr strand.Transport, r *recorder, peer net.Conn)) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		test(t, tr, r, peer)
	})
	t.Run("tls", func(t *testing.T) {
		ours, peer := tcpPair(t)
		client := clientTLSConn(peer)
		shaken := make(chan error, 1)
		go func() { shaken <- client.Handshake() }()
		r := newRecorder()
		tr := attach(t, ours, r, &strand.AttachOptions{TLS: serverTLS()})
		require.NoError(t, await(t, "the handshake", shaken))
		test(t, tr, r, client)
	})
}

// receive reads n bytes of the peer in the background.
func receive(peer net.Conn, n int) <-chan []byte {
	got := make(chan []byte, 1)
	go func() {
		b := make([]byte, n)
		k, _ := io.ReadFull(peer, b)
		got <- b[:k]
	}()
	return got
}

// SF-01, SF-02, SF-03: in the order of the calls, and the file's position
// follows.
func TestSendfileKeepsTheOrder(t *testing.T) {
	sendfileKinds(t, func(t *testing.T, tr strand.Transport, r *recorder, peer net.Conn) {
		f, data := bigFile(t)
		before := make([]byte, 300_000)
		got := receive(peer, len(before)+len(data)+5)
		_, err := tr.Write(before)
		require.NoError(t, err)
		n, err := strand.Sendfile(context.Background(), tr, f, 0, 0)
		require.NoError(t, err)
		require.EqualValues(t, len(data), n)
		require.EqualValues(t, len(data), position(t, f))
		_, err = tr.Write([]byte("after"))
		require.NoError(t, err)
		want := append(append(before, data...), "after"...)
		require.True(t, string(want) == string(await(t, "the file", got)), "every byte once and in order")
		require.True(t, tr.IsReading())
	})
}

// SF-01: parts of a file, and what is beyond its end.
func TestSendfilePart(t *testing.T) {
	sendfileKinds(t, func(t *testing.T, tr strand.Transport, _ *recorder, peer net.Conn) {
		f, data := bigFile(t)
		size := int64(len(data))
		got := receive(peer, 1000+10)
		n, err := strand.Sendfile(context.Background(), tr, f, 5000, 1000)
		require.NoError(t, err)
		require.EqualValues(t, 1000, n)
		require.EqualValues(t, 6000, position(t, f), "SF-02: behind the last byte sent")
		n, err = strand.Sendfile(context.Background(), tr, f, size-10, 100)
		require.NoError(t, err)
		require.EqualValues(t, 10, n)
		n, err = strand.Sendfile(context.Background(), tr, f, size+10, 0)
		require.NoError(t, err)
		require.Zero(t, n)
		require.EqualValues(t, size, position(t, f), "SF-02: unchanged when nothing was sent")
		require.Equal(t, append(append([]byte(nil), data[5000:6000]...), data[size-10:]...), await(t, "the parts", got))
	})
}

// stuckSendfile starts a Sendfile that cannot finish because the peer does not read,
// and returns its result when it has begun to wait.
func stuckSendfile(t *testing.T, ctx context.Context, tr strand.Transport) <-chan error {
	t.Helper()
	f, _ := bigFile(t)
	result := make(chan error, 1)
	go func() {
		_, err := strand.Sendfile(ctx, tr, f, 0, 0)
		result <- err
	}()
	for tr.IsReading() { // it is paused from the beginning of the transfer on (SF-04)
		select {
		case err := <-result:
			t.Fatalf("Sendfile has returned: %v", err)
		default:
		}
	}
	return result
}

// SF-08: the protocol hears nothing of a copy that waits again and again for
// its peer.
func TestSendfileIsHiddenFromTheProtocol(t *testing.T) {
	sendfileKinds(t, func(t *testing.T, tr strand.Transport, r *recorder, peer net.Conn) {
		f, data := bigFile(t)
		got := receive(peer, len(data))
		_, err := strand.Sendfile(context.Background(), tr, f, 0, 0)
		require.NoError(t, err)
		await(t, "the file", got)
		require.Same(t, r, tr.Protocol())
		r.wantCalls(t, "no pause, no resume", "ConnectionMade")
	})
}

// SF-04: nothing can be written meanwhile, not even nothing, and reading is
// paused.
func TestSendfileExcludesWrites(t *testing.T) {
	sendfileKinds(t, func(t *testing.T, tr strand.Transport, r *recorder, peer net.Conn) {
		ctx, cancel := context.WithCancel(context.Background())
		result := stuckSendfile(t, ctx, tr)
		for _, p := range [][]byte{[]byte("x"), nil} {
			_, err := tr.Write(p)
			require.ErrorIs(t, err, strand.ErrSendfileActive)
			_, err = tr.WriteLines(p)
			require.ErrorIs(t, err, strand.ErrSendfileActive)
		}
		f, _ := bigFile(t)
		_, err := strand.Sendfile(context.Background(), tr, f, 0, 0)
		require.ErrorIs(t, err, strand.ErrSendfileActive, "one at a time")
		if tr.CanWriteEOF() {
			require.ErrorIs(t, tr.WriteEOF(), strand.ErrSendfileActive)
		}
		cancel()
		require.ErrorIs(t, await(t, "the end of Sendfile", result), context.Canceled)
	})
}

// SF-11: a cancelled Sendfile leaves the transport usable.
func TestSendfileCancelled(t *testing.T) {
	sendfileKinds(t, func(t *testing.T, tr strand.Transport, r *recorder, peer net.Conn) {
		ctx, cancel := context.WithCancel(context.Background())
		result := stuckSendfile(t, ctx, tr)
		cancel()
		require.ErrorIs(t, await(t, "the end of Sendfile", result), context.Canceled)
		require.False(t, tr.IsClosing())
		require.True(t, tr.IsReading())
		_, err := tr.Write([]byte("after"))
		require.NoError(t, err)
		tr.Close()
		all := make(chan []byte, 1)
		go func() {
			b, _ := io.ReadAll(peer)
			peer.Close()
			all <- b
		}()
		b := await(t, "all that was sent", all)
		require.Equal(t, "after", string(b[len(b)-5:]))
		require.NoError(t, r.awaitLost(t))
	})
}

// SF-10: closing or aborting ends the transfer with an error.
func TestSendfileClosed(t *testing.T) {
	for name, end := range map[string]func(strand.Transport){
		"close": func(tr strand.Transport) { tr.Close() },
		"abort": strand.Transport.Abort,
	} {
		t.Run(name, func(t *testing.T) {
			sendfileKinds(t, func(t *testing.T, tr strand.Transport, r *recorder, peer net.Conn) {
				result := stuckSendfile(t, context.Background(), tr)
				end(tr)
				require.ErrorIs(t, await(t, "the end of Sendfile", result), net.ErrClosed)
				tr.Abort()
				require.NoError(t, r.awaitLost(t))
			})
		})
	}
}

// SF-09: the peer goes away in the middle.
func TestSendfilePeerGone(t *testing.T) {
	sendfileKinds(t, func(t *testing.T, tr strand.Transport, r *recorder, peer net.Conn) {
		result := stuckSendfile(t, context.Background(), tr)
		if c, ok := peer.(*tls.Conn); ok {
			peer = c.NetConn()
		}
		require.NoError(t, peer.Close())
		err := await(t, "the end of Sendfile", result)
		require.Error(t, err)
		lost := r.awaitLost(t)
		for _, err := range []error{err, lost} {
			var errno syscall.Errno
			require.ErrorAs(t, err, &errno)
			require.Contains(t, []syscall.Errno{syscall.EPIPE, syscall.ECONNRESET}, errno)
		}
	})
}

// SF-05, SF-06: bad arguments leave the transport usable.
func TestSendfileBadArguments(t *testing.T) {
	sendfileKinds(t, func(t *testing.T, tr strand.Transport, r *recorder, peer net.Conn) {
		f, _ := bigFile(t)
		dir, err := os.Open(t.TempDir())
		require.NoError(t, err)
		defer dir.Close()
		ctx := context.Background()
		for why, call := range map[string]func() (int64, error){
			"negative count":  func() (int64, error) { return strand.Sendfile(ctx, tr, f, 0, -1) },
			"negative offset": func() (int64, error) { return strand.Sendfile(ctx, tr, f, -1, 0) },
			"no file":         func() (int64, error) { return strand.Sendfile(ctx, tr, nil, 0, 0) },
			"a directory":     func() (int64, error) { return strand.Sendfile(ctx, tr, dir, 0, 0) },
		} {
			_, err := call()
			require.ErrorIs(t, err, os.ErrInvalid, why)
		}
		got := receive(peer, 5)
		_, err = tr.Write([]byte("still"))
		require.NoError(t, err)
		require.Equal(t, "still", string(await(t, "a write", got)))
		tr.Abort()
		_, err = strand.Sendfile(ctx, tr, f, 0, 0)
		require.ErrorIs(t, err, net.ErrClosed, "SF-05: closing")
	})
}

// SF-05: a pipe is no stream to send a file to.
func TestSendfileUnsupported(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	tr, _, err := strand.ConnectWritePipe(context.Background(), w, newRecorder, nil)
	require.NoError(t, err)
	defer func() { <-tr.Done() }()
	defer tr.Close()
	f, _ := bigFile(t)
	_, err = strand.Sendfile(context.Background(), tr, f, 0, 0)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// SF-06: a file that cannot be read leaves the transport usable: nothing of it
// was sent.
func TestSendfileUnreadable(t *testing.T) {
	sendfileKinds(t, func(t *testing.T, tr strand.Transport, r *recorder, peer net.Conn) {
		path := filepath.Join(t.TempDir(), "f")
		require.NoError(t, os.WriteFile(path, []byte("content"), 0o600))
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		defer f.Close()
		n, err := strand.Sendfile(context.Background(), tr, f, 0, 0)
		require.ErrorIs(t, err, syscall.EBADF)
		require.Zero(t, n)
		got := receive(peer, 5)
		_, err = tr.Write([]byte("still"))
		require.NoError(t, err)
		require.Equal(t, "still", string(await(t, "a write", got)))
		tr.Abort()
		require.NoError(t, r.awaitLost(t))
	})
}

// A file that can no longer be read in the middle ends the connection: a peer
// that misses half a file must not be sent what comes after it.
func TestSendfileReadFailsInTheMiddle(t *testing.T) {
	sendfileKinds(t, func(t *testing.T, tr strand.Transport, r *recorder, peer net.Conn) {
		f, data := bigFile(t)
		result := make(chan error, 1)
		go func() {
			_, err := strand.Sendfile(context.Background(), tr, f, 0, 0)
			result <- err
		}()
		readN(t, peer, 1) // it has begun, and the rest does not fit into the buffers
		require.NoError(t, f.Close())
		go io.CopyN(io.Discard, peer, int64(len(data)))
		require.ErrorIs(t, await(t, "the end of Sendfile", result), os.ErrClosed)
		require.ErrorIs(t, r.awaitLost(t), os.ErrClosed)
	})
}
