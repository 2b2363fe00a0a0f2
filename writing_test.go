package strand_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// plenty is more than the kernel takes from a narrow connection whose peer does
// not read.
const plenty = 512 << 10

// fastKinds are the connections that are written to without a goroutine switch.
var fastKinds = kinds[:2]

// numbered is n bytes that tell their position from all nearby ones.
func numbered(n int) []byte {
	const period = 251
	p := make([]byte, n)
	for i := range min(n, period) {
		p[i] = byte(i * 7 % period)
	}
	for done := period; done < n; done *= 2 { // the race detector makes a loop over bytes slow
		copy(p[done:], p[:done])
	}
	return p
}

// narrow is connected with small buffers in the kernel.
func narrow(t testing.TB, k kind, r *recorder, opts *strand.AttachOptions) (tr strand.Transport, peer net.Conn) {
	t.Helper()
	ours, peer := k.pair(t)
	narrowConns(t, ours, peer)
	return attach(t, ours, r, opts), peer
}

func narrowConns(t testing.TB, ours, peer net.Conn) {
	t.Helper()
	if f, ok := ours.(foreign); ok {
		ours = f.Conn
	}
	if c, ok := ours.(interface{ SetWriteBuffer(int) error }); ok { // not net.Pipe
		require.NoError(t, c.SetWriteBuffer(64<<10))
		require.NoError(t, peer.(interface{ SetReadBuffer(int) error }).SetReadBuffer(64<<10))
	}
}

// stillKinds are connections that take nothing more once they are full, as long
// as nobody reads. (TCP may, whenever an acknowledgement comes in.)
var stillKinds = []kind{kinds[1], {"pipe", pipePair}}

func pipePair(t testing.TB) (ours, peer net.Conn) {
	ours, peer = net.Pipe()
	t.Cleanup(func() { peer.Close() })
	return ours, peer
}

// backlogged is a narrow connection that holds most of numbered(plenty).
func backlogged(t testing.TB, k kind, r *recorder, opts *strand.AttachOptions) (tr strand.Transport, peer net.Conn) {
	t.Helper()
	tr, peer = narrow(t, k, r, opts)
	mustWrite(t, tr, numbered(plenty))
	require.True(t, tr.WriteBufferSize() > 0 || tr.IsClosing(), "the kernel has taken everything")
	return tr, peer
}

func mustWrite(t testing.TB, tr strand.Transport, p []byte) {
	t.Helper()
	n, err := tr.Write(p)
	require.NoError(t, err)
	require.Equal(t, len(p), n)
}

// readN reads exactly n bytes at the peer.
func readN(t testing.TB, peer net.Conn, n int) []byte {
	t.Helper()
	require.NoError(t, peer.SetReadDeadline(time.Now().Add(patience)))
	p := make([]byte, n)
	_, err := io.ReadFull(peer, p)
	require.NoError(t, err)
	return p
}

// requireSame is require.Equal without a print of a megabyte.
func requireSame(t testing.TB, want, got []byte, why string) {
	t.Helper()
	require.Equal(t, len(want), len(got), why)
	require.True(t, bytes.Equal(want, got), "%s: the bytes differ", why)
}

// requireRefused checks that nothing is accepted, in any way to write.
func requireRefused(t testing.TB, tr strand.Transport, target error) {
	t.Helper()
	for _, p := range [][]byte{[]byte("x"), {}, nil} {
		n, err := tr.Write(p)
		require.ErrorIs(t, err, target, "Write of %d bytes", len(p))
		require.Zero(t, n)
		n, err = tr.WriteLines(p, p)
		require.ErrorIs(t, err, target, "WriteLines of %d bytes", 2*len(p))
		require.Zero(t, n)
	}
}

// isHangup reports whether err is what a socket says when its peer is gone.
func isHangup(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// writeUntilError writes small pieces until the peer's RST has come this far.
func writeUntilError(t testing.TB, tr strand.Transport) error {
	t.Helper()
	for start := time.Now(); time.Since(start) < patience; {
		n, err := tr.Write([]byte("x"))
		if err != nil {
			require.Zero(t, n)
			return err
		}
	}
	t.Fatal("no write failed")
	return nil
}

// WR-01: on an idle connection the kernel has it when Write returns. (A foreign
// conn can only be written to by a goroutine that may block: section C.)
func TestSmallWriteIsNotBuffered(t *testing.T) {
	for _, k := range fastKinds {
		t.Run(k.name, func(t *testing.T) {
			tr, peer := connected(t, k, newRecorder(), nil)
			mustWrite(t, tr, []byte("hello"))
			require.Zero(t, tr.WriteBufferSize())
			require.Equal(t, "hello", string(readN(t, peer, 5)))
		})
	}
}

// WR-01: Write returns although nobody reads, and what it could not send is
// counted.
func TestWriteNeverBlocks(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		tr, _ := narrow(t, k, newRecorder(), nil)
		mustWrite(t, tr, numbered(plenty))
		held := tr.WriteBufferSize()
		require.Positive(t, held)
		require.LessOrEqual(t, held, plenty)
		n, err := tr.WriteLines(numbered(plenty), numbered(plenty))
		require.NoError(t, err)
		require.Equal(t, 2*plenty, n)
		require.Greater(t, tr.WriteBufferSize(), 2*plenty-held, "with a backlog the kernel is not tried")
	})
}

// WR-01: exactly what is not in the kernel is counted. A Unix socket's queue
// changes only by reading, so that what it has got can be told.
func TestWriteBufferSizeIsExact(t *testing.T) {
	tr, peer := backlogged(t, kinds[1], newRecorder(), nil)
	held := tr.WriteBufferSize()
	tr.Abort()
	requireSame(t, numbered(plenty)[:plenty-held], readAll(t, peer), "the kernel's part")
}

// WR-02: the order of the calls is the order of the bytes, through partial
// sends, whatever calls are mixed.
func TestWritesKeepTheirOrder(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		tr, peer := narrow(t, k, newRecorder(), nil)
		got := make(chan []byte, 1)
		go func() {
			b, _ := io.ReadAll(peer)
			got <- b
		}()
		r := rand.New(rand.NewPCG(1, 2))
		want := numbered(3 * plenty)
		for rest := want; len(rest) > 0; {
			n := min(len(rest), r.IntN(1<<r.IntN(18)+1))
			writeInOneOfTheWays(t, r, tr, rest[:n])
			rest = rest[n:]
		}
		tr.Close()
		requireSame(t, want, await(t, "all bytes", got), "what arrived")
	})
}

func writeInOneOfTheWays(t testing.TB, r *rand.Rand, tr strand.Transport, p []byte) {
	t.Helper()
	if r.IntN(2) == 0 {
		mustWrite(t, tr, p)
		return
	}
	var bufs [][]byte
	for rest := p; len(rest) > 0; {
		n := 1 + r.IntN(len(rest))
		bufs = append(bufs, rest[:n], nil)
		rest = rest[n:]
	}
	n, err := tr.WriteLines(bufs...)
	require.NoError(t, err)
	require.Equal(t, len(p), n)
}

// WR-03, HC-04: "after WriteEOF" is said before "closed", and before looking at
// whether there is anything to write.
func TestRefusalsHaveAnOrder(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, _ := connected(t, k, r, nil)
		require.NoError(t, tr.WriteEOF())
		requireRefused(t, tr, strand.ErrWriteAfterEOF)
		tr.Close()
		requireRefused(t, tr, strand.ErrWriteAfterEOF)
		require.NoError(t, r.awaitLost(t))
		requireRefused(t, tr, strand.ErrWriteAfterEOF)
	})
}

// WR-04: writing nothing does nothing, and no water mark is looked at.
func TestEmptyWrites(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{WriteBufferHigh: -1}})
		for _, p := range [][]byte{nil, {}} {
			n, err := tr.Write(p)
			require.NoError(t, err)
			require.Zero(t, n)
		}
		require.Zero(t, tr.WriteBufferSize())
		require.True(t, tr.Writable())
		tr.Close()
		require.Empty(t, readAll(t, peer))
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "nothing but the frame", "ConnectionMade", "ConnectionLost nil")
	})
}

// WR-04: an empty write has room in a full buffer too.
func TestEmptyWriteOnFullBuffer(t *testing.T) {
	tr, _ := backlogged(t, kinds[0], newRecorder(), &strand.AttachOptions{TransportOptions: strand.TransportOptions{WriteBufferMax: 10}})
	_, err := tr.Write([]byte("x"))
	require.ErrorIs(t, err, strand.ErrBufferFull)
	n, err := tr.Write(nil)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = tr.WriteLines(nil, nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

// WR-05: a write on a connection that is over says so, every time, and nothing
// is logged.
func TestWriteAfterTheEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(tr strand.Transport)
	}{
		{"Close", func(tr strand.Transport) { tr.Close() }},
		{"Abort", strand.Transport.Abort},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				var log logBuffer
				r := newRecorder()
				opts := logTo(&log)
				r.onLost = func(error) { requireRefused(t, r.transport(), net.ErrClosed) }
				tr, _ := connected(t, k, r, &strand.AttachOptions{TransportOptions: opts})
				tt.end(tr)
				requireRefused(t, tr, net.ErrClosed)
				require.NoError(t, r.awaitLost(t))
				for range 10 {
					requireRefused(t, tr, net.ErrClosed)
				}
				require.Zero(t, tr.WriteBufferSize())
				require.Empty(t, log.String())
			})
		})
	}
}

// WR-06: nothing is accepted behind a Close that is still flushing, and what
// was accepted before is not harmed.
func TestWriteWhileFlushing(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := backlogged(t, k, r, nil)
		tr.Close()
		require.Positive(t, tr.WriteBufferSize(), "still flushing")
		requireRefused(t, tr, net.ErrClosed)
		requireSame(t, numbered(plenty), readAll(t, peer), "what was accepted")
		require.NoError(t, r.awaitLost(t))
	})
}

// WR-07, CL-06: Write returns the socket's error, the connection is closing at
// once and stays so with that error, whoever closes or aborts it afterwards.
func TestWriteError(t *testing.T) {
	for _, k := range fastKinds {
		t.Run(k.name, func(t *testing.T) {
			r := newRecorder()
			r.onMade = func(tr strand.Transport) { tr.PauseReading() } // only writing is to find out
			tr, peer := connected(t, k, r, nil)
			hangUp(t, peer)
			err := writeUntilError(t, tr)
			require.True(t, isHangup(err), "%v", err)
			var op *net.OpError
			require.ErrorAs(t, err, &op)
			require.True(t, tr.IsClosing())
			require.Zero(t, tr.WriteBufferSize())
			tr.Close()
			tr.Abort()
			requireRefused(t, tr, net.ErrClosed)
			requireRefused(t, tr, op.Err)
			require.Equal(t, err, r.awaitLost(t), "the very error")
		})
	}
}

// hangUp makes a peer disappear rather than finish.
func hangUp(t testing.TB, peer net.Conn) {
	t.Helper()
	if tcp, ok := peer.(*net.TCPConn); ok {
		require.NoError(t, tcp.SetLinger(0))
	}
	require.NoError(t, peer.Close())
}

// WR-07: a Write that fails inside a callback does not nest ConnectionLost in
// it, and nothing more is delivered.
func TestWriteErrorInCallback(t *testing.T) {
	for _, k := range fastKinds {
		t.Run(k.name, func(t *testing.T) {
			gone := make(chan struct{})
			failed := make(chan error, 1)
			r := newRecorder()
			r.onMade = func(tr strand.Transport) {
				<-gone
				failed <- writeUntilError(t, tr)
			}
			ours, peer := k.pair(t)
			go func() {
				hangUp(t, peer)
				close(gone)
			}()
			attach(t, ours, r, nil)
			err := await(t, "a write error", failed)
			require.Equal(t, err, r.awaitLost(t))
			r.wantCalls(t, "lost follows made", "ConnectionMade", "ConnectionLost "+errName(err))
		})
	}
}

// WR-08, FC-10: a failing flush drops all of the buffer, and nobody is told to
// go on writing.
func TestFlushError(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onMade = func(tr strand.Transport) { tr.PauseReading() } // only the flush is to find out
		tr, peer := backlogged(t, k, r, nil)
		r.awaitCall(t, "PauseWriting")
		hangUp(t, peer)
		err := r.awaitLost(t)
		require.True(t, isHangup(err), "%v", err)
		require.Zero(t, tr.WriteBufferSize())
		r.wantCalls(t, "no ResumeWriting", "ConnectionMade", "PauseWriting", "ConnectionLost "+errName(err))
	})
}

// WR-09: the caller may use its slice again as soon as Write has returned.
func TestWriteDoesNotKeepItsArgument(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		tr, peer := narrow(t, k, newRecorder(), nil)
		a, b := numbered(plenty), numbered(plenty)
		mustWrite(t, tr, a)
		clear(a)
		_, err := tr.WriteLines(b[:10], b[10:])
		require.NoError(t, err)
		clear(b)
		tr.Close()
		requireSame(t, append(numbered(plenty), numbered(plenty)...), readAll(t, peer), "what was written")
		require.Equal(t, make([]byte, 100), a[:100], "and it is not written to")
	})
}

// WR-10, WR-11: WriteLines is Write for several pieces, empty ones included,
// wherever they stand.
func TestWriteLines(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		n, err := tr.WriteLines([]byte("one"), nil, []byte("two"), []byte{})
		require.NoError(t, err)
		require.Equal(t, 6, n)
		tr.Close() // WR-11 (b): an empty last piece does not keep it from ending
		require.Equal(t, "onetwo", string(readAll(t, peer)))
		require.NoError(t, r.awaitLost(t))
	})
}

// WR-10: more pieces than one system call takes.
func TestWriteLinesOfManyPieces(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		tr, peer := connected(t, k, newRecorder(), nil)
		want := numbered(3000)
		var bufs [][]byte
		for i := range want {
			bufs = append(bufs, want[i:i+1])
		}
		n, err := tr.WriteLines(bufs...)
		require.NoError(t, err)
		require.Equal(t, len(want), n)
		tr.Close()
		requireSame(t, want, readAll(t, peer), "all pieces")
	})
}

// WR-10, WR-11 (d): nothing to write is nothing.
func TestWriteLinesOfNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		for _, bufs := range [][][]byte{nil, {}, {nil}, {{}, nil, {}}} {
			n, err := tr.WriteLines(bufs...)
			require.NoError(t, err)
			require.Zero(t, n)
		}
		require.Zero(t, tr.WriteBufferSize())
		tr.Close()
		require.Empty(t, readAll(t, peer))
		require.NoError(t, r.awaitLost(t))
	})
}

// WR-11 (a), (b): WriteLines has the same flow control as Write, and an empty
// last piece does not stay in the buffer.
func TestWriteLinesIsFlowControlled(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := narrow(t, k, r, nil)
		p := numbered(plenty)
		_, err := tr.WriteLines(p[:1000], p[1000:], nil)
		require.NoError(t, err)
		require.False(t, tr.Writable())
		r.awaitCall(t, "PauseWriting")
		readN(t, peer, plenty)
		r.awaitCall(t, "ResumeWriting")
		tr.Close()
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "one pair", "ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil")
	})
}

// WriteBufferMax: all or nothing, and one write onto an empty buffer always
// passes.
func TestWriteBufferMax(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		opts := &strand.AttachOptions{TransportOptions: strand.TransportOptions{WriteBufferMax: 2 * plenty}}
		tr, peer := narrow(t, k, newRecorder(), opts)
		mustWrite(t, tr, numbered(3*plenty))
		for _, write := range []func() (int, error){
			func() (int, error) { return tr.Write([]byte("late")) },
			func() (int, error) { return tr.WriteLines([]byte("la"), []byte("te")) },
		} {
			n, err := write()
			require.ErrorIs(t, err, strand.ErrBufferFull)
			require.Zero(t, n)
		}
		require.False(t, tr.IsClosing(), "the connection goes on")
		tr.Close()
		requireSame(t, numbered(3*plenty), readAll(t, peer), "nothing of what was refused")
	})
}

// WR-02: writes from many goroutines are whole and lose nothing.
func TestConcurrentWritesAreWhole(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		const writers, lines = 4, 200
		tr, peer := narrow(t, k, newRecorder(), nil)
		errs := make(chan error, writers)
		for w := range writers {
			line := append(bytes.Repeat([]byte{'a' + byte(w)}, 999), '\n')
			go func() {
				var err error
				for range lines {
					_, e := tr.Write(line)
					err = errors.Join(err, e)
				}
				errs <- err
			}()
		}
		got := readN(t, peer, writers*lines*1000)
		for range writers {
			require.NoError(t, await(t, "a writer's end", errs))
		}
		for line := range bytes.SplitSeq(bytes.TrimSuffix(got, []byte("\n")), []byte("\n")) {
			require.Len(t, line, 999)
			require.Equal(t, 999, bytes.Count(line, line[:1]), "of one writer")
		}
	})
}

// WR-01, FC-09: WriteLines tries the socket with all pieces, however many they
// are: nothing is held that the kernel has room for.
func TestWriteLinesTriesAllPieces(t *testing.T) {
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			r := newRecorder()
			opts := &strand.AttachOptions{TransportOptions: strand.TransportOptions{WriteBufferHigh: -1}}
			tr, peer := connected(t, k, r, opts)
			pieces := make([][]byte, 150)
			var want []byte
			for i := range pieces {
				pieces[i] = []byte{byte(i)}
				want = append(want, byte(i))
			}
			n, err := tr.WriteLines(pieces...)
			require.NoError(t, err)
			require.Equal(t, len(want), n)
			require.True(t, tr.Writable())
			tr.Close()
			require.Equal(t, want, readAll(t, peer))
			require.NoError(t, r.awaitLost(t))
			r.wantCalls(t, "no pause", "ConnectionMade", "ConnectionLost nil")
		})
	}
}
