//go:build unix

package strand_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gostrand/strand"
)

// osPipe is os.Pipe, closed with the test.
func osPipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

// socketFiles are the ends of a Unix socket, closed with the test.
func socketFiles(t testing.TB) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	a, b = os.NewFile(uintptr(fds[0]), "socket a"), os.NewFile(uintptr(fds[1]), "socket b")
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return a, b
}

// connectPipe makes files a transport of rec, which ends with the test.
func connectPipe(t testing.TB, r, w *os.File, rec *recorder, opts *strand.PipeOptions) strand.Transport {
	t.Helper()
	tr, p, err := strand.ConnectPipe(context.Background(), r, w, func() *recorder { return rec }, opts)
	require.NoError(t, err)
	require.Same(t, rec, p)
	t.Cleanup(func() {
		tr.Abort()
		await(t, "the end after Abort", tr.Done())
	})
	return tr
}

func pipeMarks(high, low int) *strand.PipeOptions {
	return &strand.PipeOptions{TransportOptions: strand.TransportOptions{WriteBufferHigh: high, WriteBufferLow: low, Logger: quiet}}
}

// isBlocking says how reads and writes of f behave, without Fd's making them
// block.
func isBlocking(t testing.TB, f *os.File) bool {
	t.Helper()
	raw, err := f.SyscallConn()
	require.NoError(t, err)
	var flags int
	require.NoError(t, raw.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0) }))
	require.NoError(t, err)
	return flags&unix.O_NONBLOCK == 0
}

func requireClosed(t testing.TB, f *os.File) {
	t.Helper()
	_, err := f.Stat()
	require.ErrorIs(t, err, os.ErrClosed)
}

func requireOpenFile(t testing.TB, f *os.File) {
	t.Helper()
	_, err := f.Stat()
	require.NoError(t, err)
}

// pipeKinds are the sorts of pipe that must not make a difference. The
// transport has the first two files, the test the others.
var pipeKinds = []struct {
	name string
	make func(t testing.TB) (r, w, peerW, peerR *os.File)
}{
	{"pipe", func(t testing.TB) (r, w, peerW, peerR *os.File) {
		r, peerW = osPipe(t)
		peerR, w = osPipe(t)
		return r, w, peerW, peerR
	}},
	{"blocking", func(t testing.TB) (r, w, peerW, peerR *os.File) {
		r, peerW = osPipe(t)
		peerR, w = osPipe(t)
		r.Fd() // as os/exec does it to what a child inherits
		w.Fd()
		return r, w, peerW, peerR
	}},
	{"fifo", func(t testing.TB) (r, w, peerW, peerR *os.File) {
		in, out := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
		files := []*os.File{}
		for _, name := range []string{in, out} {
			require.NoError(t, unix.Mkfifo(name, 0o600))
			reader, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
			require.NoError(t, err)
			writer, err := os.OpenFile(name, os.O_WRONLY, 0)
			require.NoError(t, err)
			files = append(files, reader, writer)
		}
		t.Cleanup(func() {
			for _, f := range files {
				f.Close()
			}
		})
		return files[0], files[3], files[1], files[2]
	}},
	{"socket", func(t testing.TB) (r, w, peerW, peerR *os.File) {
		r, peerW = socketFiles(t)
		w, peerR = socketFiles(t)
		return r, w, peerW, peerR
	}},
}

func eachPipe(t *testing.T, test func(t *testing.T, r, w, peerW, peerR *os.File)) {
	for _, k := range pipeKinds {
		t.Run(k.name, func(t *testing.T) {
			r, w, peerW, peerR := k.make(t)
			test(t, r, w, peerW, peerR)
		})
	}
}

// RP-01, RP-03: data, the end of file, and the end, whatever EOFReceived
// returns. The file is closed before ConnectionLost (RP-02).
func TestReadPipe(t *testing.T) {
	eachPipe(t, func(t *testing.T, r, _, peerW, _ *os.File) {
		rec := newRecorder()
		rec.onEOF = func() bool {
			require.False(t, rec.transport().IsClosing(), "what EOFReceived returns could matter elsewhere")
			return true
		}
		rec.onLost = func(error) { requireClosed(t, r) }
		tr := connectPipe(t, r, nil, rec, nil)
		_, err := peerW.Write([]byte("hello"))
		require.NoError(t, err)
		rec.awaitData(t, 5)
		require.NoError(t, peerW.Close())
		require.NoError(t, rec.awaitLost(t))
		require.Equal(t, "hello", string(rec.received()))
		require.True(t, tr.IsClosing())
		rec.wantCalls(t, "a read pipe closes at its end", "ConnectionMade", "DataReceived 5", "EOFReceived", "ConnectionLost nil")
	})
}

// WP-01, WP-02, WP-07: what is written arrives, and WriteEOF is Close: what
// was accepted goes out first.
func TestWritePipe(t *testing.T) {
	for name, end := range map[string]func(tr strand.Transport){
		"Close":    func(tr strand.Transport) { tr.Close() },
		"WriteEOF": func(tr strand.Transport) { tr.WriteEOF() },
	} {
		t.Run(name, func(t *testing.T) {
			eachPipe(t, func(t *testing.T, _, w, _, peerR *os.File) {
				rec := newRecorder()
				rec.onLost = func(error) { requireClosed(t, w) }
				tr := connectPipe(t, nil, w, rec, nil)
				require.True(t, tr.CanWriteEOF())
				want := numbered(1 << 20)
				mustWrite(t, tr, want)
				require.Positive(t, tr.WriteBufferSize())
				rec.awaitCall(t, "PauseWriting")
				end(tr)
				end(tr)
				require.True(t, tr.IsClosing())
				requireRefused(t, tr, net.ErrClosed) // WP-08: also while flushing
				got, err := io.ReadAll(peerR)
				require.NoError(t, err)
				requireSame(t, want, got, "all that was accepted")
				require.NoError(t, rec.awaitLost(t))
				requireRefused(t, tr, net.ErrClosed)
				rec.wantCalls(t, "nothing is received", "ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil")
			})
		})
	}
}

// BP-09: a BufferedProtocol receives from a pipe into its own memory, as from
// every other stream, and only there (BP-05).
func TestReadPipeBuffered(t *testing.T) {
	eachPipe(t, func(t *testing.T, r, _, peerW, _ *os.File) {
		rec := newBufferedRecorder()
		tr, _, err := strand.ConnectReadPipe(context.Background(), r, func() *bufferedRecorder { return rec }, nil)
		require.NoError(t, err)
		sent := strings.Repeat("0123456789", 30) // several buffers of 64
		_, err = peerW.WriteString(sent)
		require.NoError(t, err)
		rec.awaitData(t, len(sent))
		require.NoError(t, peerW.Close())
		await(t, "the end", tr.Done())
		require.Equal(t, sent, string(rec.received()))
		rec.wantCalls(t, "no DataReceived", "ConnectionMade", "BufferUpdated", "EOFReceived", "ConnectionLost nil")
	})
}

// RP-01, WP-01: both halves as one transport; each ends for itself.
func TestPipeBothWays(t *testing.T) {
	eachPipe(t, func(t *testing.T, r, w, peerW, peerR *os.File) {
		rec := newRecorder()
		rec.onEOF = func() bool { return true }
		tr := connectPipe(t, r, w, rec, nil)
		mustWrite(t, tr, []byte("question"))
		require.NoError(t, tr.WriteEOF())
		require.ErrorIs(t, second(tr.Write([]byte("more"))), strand.ErrWriteAfterEOF)
		got, err := io.ReadAll(peerR)
		require.NoError(t, err, "the peer sees the end of the half that was closed")
		require.Equal(t, "question", string(got))
		_, err = peerW.Write([]byte("answer"))
		require.NoError(t, err)
		require.NoError(t, peerW.Close())
		rec.awaitCall(t, "EOFReceived")
		require.False(t, tr.IsClosing(), "EOFReceived returned true")
		tr.Close()
		require.NoError(t, rec.awaitLost(t))
		requireClosed(t, r)
		requireClosed(t, w)
		rec.wantCalls(t, "an answer", "ConnectionMade", "DataReceived 6", "EOFReceived", "ConnectionLost nil")
	})
}

func second(_ int, err error) error { return err }

// WP-01: one file may be both halves.
func TestPipeOneSocket(t *testing.T) {
	ours, peer := socketFiles(t)
	rec := newRecorder()
	rec.onData = func(data []byte) { rec.transport().Write(data) }
	tr := connectPipe(t, ours, ours, rec, nil)
	require.False(t, tr.CanWriteEOF())
	require.ErrorIs(t, tr.WriteEOF(), errors.ErrUnsupported)
	_, err := peer.Write([]byte("echo"))
	require.NoError(t, err)
	got := make([]byte, 4)
	_, err = io.ReadFull(peer, got)
	require.NoError(t, err)
	require.Equal(t, "echo", string(got))
	require.NoError(t, peer.Close())
	require.NoError(t, rec.awaitLost(t))
}

// RP-01, WP-01, WP-12: what cannot be a pipe is refused and stays the caller's,
// as it does if the factory fails or the context is over.
func TestPipeRefused(t *testing.T) {
	before := openDescriptors(t)
	dir := t.TempDir()
	regular, err := os.Create(filepath.Join(dir, "regular"))
	require.NoError(t, err)
	defer regular.Close()
	directory, err := os.Open(dir)
	require.NoError(t, err)
	defer directory.Close()
	r, w := osPipe(t)
	gone, _ := osPipe(t)
	require.NoError(t, gone.Close())
	cancelled, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("not now")
	cancel(cause)
	bg := context.Background()

	for name, tt := range map[string]struct {
		ctx     context.Context
		r, w    *os.File
		factory func() *recorder
		opts    *strand.PipeOptions
		want    error
	}{
		"regular file to read":  {ctx: bg, r: regular, want: fs.ErrInvalid},
		"regular file to write": {ctx: bg, w: regular, want: fs.ErrInvalid},
		"directory":             {ctx: bg, r: directory, want: fs.ErrInvalid},
		"one of two":            {ctx: bg, r: r, w: regular, want: fs.ErrInvalid},
		"closed":                {ctx: bg, r: gone, want: os.ErrClosed},
		"nothing":               {ctx: bg},
		"context":               {ctx: cancelled, r: r, w: w, want: cause},
		"nil protocol":          {ctx: bg, r: r, w: w, factory: nilRecorder},
		"options":               {ctx: bg, r: r, w: w, opts: pipeMarks(1, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			factory := tt.factory
			if factory == nil {
				factory = func() *recorder {
					t.Error("the factory is asked last")
					return newRecorder()
				}
			}
			tr, _, err := strand.ConnectPipe(tt.ctx, tt.r, tt.w, factory, tt.opts)
			require.Error(t, err)
			require.Nil(t, tr)
			if tt.want != nil {
				require.ErrorIs(t, err, tt.want)
			}
		})
	}
	_, _, err = strand.ConnectPipe[strand.Protocol](bg, r, w, nil, nil)
	require.Error(t, err)
	require.PanicsWithValue(t, "factory", func() {
		strand.ConnectPipe(bg, r, w, func() *recorder { panic("factory") }, nil)
	})
	for _, f := range []*os.File{regular, directory, r, w} {
		requireOpenFile(t, f)
	}
	requireDescriptors(t, before+5, "those, and the other end of the closed one")
}

// RP-02: no more than 256 KiB at a time.
func TestReadPipeChunks(t *testing.T) {
	r, _, peerW, _ := pipeKinds[0].make(t)
	if runtime.GOOS == "linux" { // larger than a chunk
		raw, err := peerW.SyscallConn()
		require.NoError(t, err)
		raw.Control(func(fd uintptr) { unix.FcntlInt(fd, 1031 /* F_SETPIPE_SZ */, 1<<20) })
	}
	rec := newRecorder()
	largest := 0
	rec.onData = func(data []byte) { largest = max(largest, len(data)) }
	connectPipe(t, r, nil, rec, nil)
	want := numbered(4 << 20)
	_, err := peerW.Write(want)
	require.NoError(t, err)
	require.NoError(t, peerW.Close())
	require.NoError(t, rec.awaitLost(t))
	requireSame(t, want, rec.received(), "everything")
	require.LessOrEqual(t, largest, 256<<10)
}

// RP-04: Close ends a read pipe without EOFReceived, also inside callbacks, and
// twice.
func TestReadPipeClose(t *testing.T) {
	eachPipe(t, func(t *testing.T, r, _, peerW, _ *os.File) {
		rec := newRecorder()
		rec.onData = func([]byte) {
			rec.transport().Close()
			rec.transport().Close()
		}
		connectPipe(t, r, nil, rec, nil)
		_, err := peerW.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, rec.awaitLost(t))
		rec.wantCalls(t, "no end of file", "ConnectionMade", "DataReceived 1", "ConnectionLost nil")
	})
	t.Run("idle", func(t *testing.T) {
		eachPipe(t, func(t *testing.T, r, _, _, _ *os.File) {
			rec := newRecorder()
			tr := connectPipe(t, r, nil, rec, nil)
			tr.Close()
			require.NoError(t, rec.awaitLost(t))
			rec.wantCalls(t, "no end of file", "ConnectionMade", "ConnectionLost nil")
		})
	})
	t.Run("at the end of file", func(t *testing.T) {
		r, peerW := osPipe(t)
		rec := newRecorder()
		rec.onEOF = func() bool {
			rec.transport().Close()
			return true
		}
		connectPipe(t, r, nil, rec, nil)
		require.NoError(t, peerW.Close())
		require.NoError(t, rec.awaitLost(t))
		rec.wantCalls(t, "one end", "ConnectionMade", "EOFReceived", "ConnectionLost nil")
	})
}

// RP-05: a read error goes to ConnectionLost.
func TestReadPipeError(t *testing.T) {
	_, w := osPipe(t)
	rec := newRecorder()
	connectPipe(t, w, nil, rec, nil)
	require.ErrorIs(t, rec.awaitLost(t), syscall.EBADF, "the end to write to cannot be read")
}

// RP-06: while reading is paused neither data nor the end of file is
// delivered.
func TestReadPipePause(t *testing.T) {
	eachPipe(t, func(t *testing.T, r, _, peerW, _ *os.File) {
		rec := newRecorder()
		tr := connectPipe(t, r, nil, rec, nil)
		require.True(t, tr.IsReading())
		tr.PauseReading()
		tr.PauseReading()
		require.False(t, tr.IsReading())
		_, err := peerW.Write([]byte("held"))
		require.NoError(t, err)
		require.NoError(t, peerW.Close())
		turn := make(chan struct{})
		require.True(t, tr.CallSoon(func() { close(turn) }))
		await(t, "a turn", turn)
		rec.wantCalls(t, "nothing while paused", "ConnectionMade")
		tr.ResumeReading()
		tr.ResumeReading()
		require.NoError(t, rec.awaitLost(t))
		rec.wantCalls(t, "all of it", "ConnectionMade", "DataReceived 4", "EOFReceived", "ConnectionLost nil")
		tr.PauseReading()
		tr.ResumeReading()
		require.False(t, tr.IsReading())
	})
}

// RP-07: there is no write side, and the only extra information is the file.
func TestReadPipeCannotWrite(t *testing.T) {
	eachPipe(t, func(t *testing.T, r, _, _, _ *os.File) {
		tr := connectPipe(t, r, nil, newRecorder(), nil)
		requireUnsupported := func() {
			requireRefused(t, tr, errors.ErrUnsupported)
			require.ErrorIs(t, tr.WriteEOF(), errors.ErrUnsupported)
			require.ErrorIs(t, tr.SetWriteBufferLimits(1, 0), errors.ErrUnsupported)
			require.ErrorIs(t, strand.StartTLS(tr, nil, nil), errors.ErrUnsupported)
			require.False(t, tr.CanWriteEOF())
			require.False(t, tr.Writable())
			require.Zero(t, tr.WriteBufferSize())
			require.Same(t, r, tr.ExtraInfo(strand.ExtraPipe))
			for _, name := range []string{strand.ExtraSocket, strand.ExtraSockname, strand.ExtraPeername, strand.ExtraSubprocess} {
				require.Nil(t, tr.ExtraInfo(name))
			}
			require.Equal(t, r.Name(), tr.LocalAddr().String())
			require.Equal(t, "pipe", tr.RemoteAddr().Network())
		}
		requireUnsupported()
		tr.Abort()
		await(t, "the end", tr.Done())
		requireUnsupported()
	})
}

// WP-03: a reader that goes away while nothing is held is a clean end.
func TestWritePipeReaderGoneIdle(t *testing.T) {
	eachPipe(t, func(t *testing.T, _, w, _, peerR *os.File) {
		rec := newRecorder()
		tr := connectPipe(t, nil, w, rec, nil)
		require.False(t, tr.IsReading())
		tr.PauseReading() // there is nothing to pause
		mustWrite(t, tr, []byte("x"))
		_, err := io.ReadFull(peerR, make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, peerR.Close())
		require.NoError(t, rec.awaitLost(t))
		rec.wantCalls(t, "a clean end", "ConnectionMade", "ConnectionLost nil")
	})
}

// WP-03: the same if the pipe is full, but nothing more than that was written:
// the poller then has nothing but an error to report.
func TestWritePipeReaderGoneFull(t *testing.T) {
	peerR, w := osPipe(t)
	rec := newRecorder()
	tr := connectPipe(t, nil, w, rec, nil)
	raw, err := w.SyscallConn()
	require.NoError(t, err)
	for { // until the next byte would be held
		ready := 0
		require.NoError(t, raw.Control(func(fd uintptr) { ready, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0) }))
		require.NoError(t, err)
		if ready == 0 {
			break
		}
		mustWrite(t, tr, make([]byte, 4096))
	}
	require.Zero(t, tr.WriteBufferSize())
	require.NoError(t, peerR.Close())
	require.NoError(t, rec.awaitLost(t))
}

// WP-03: with output held it is EPIPE, which is what is lost.
func TestWritePipeReaderGoneBuffered(t *testing.T) {
	eachPipe(t, func(t *testing.T, _, w, _, peerR *os.File) {
		rec := newRecorder()
		tr := connectPipe(t, nil, w, rec, pipeMarks(1, 0))
		fill(t, tr)
		rec.awaitCall(t, "PauseWriting")
		require.NoError(t, peerR.Close())
		require.ErrorIs(t, rec.awaitLost(t), syscall.EPIPE)
		require.Zero(t, tr.WriteBufferSize())
		rec.wantCalls(t, "no resume", "ConnectionMade", "PauseWriting", "ConnectionLost EPIPE")
	})
}

// WP-04: a write that finds the reader gone returns EPIPE and ends the
// connection. In ConnectionMade nobody can have noticed before.
func TestWritePipeBroken(t *testing.T) {
	eachPipe(t, func(t *testing.T, _, w, _, peerR *os.File) {
		rec := newRecorder()
		rec.onMade = func(tr strand.Transport) {
			require.NoError(t, peerR.Close())
			_, err := tr.Write([]byte("x"))
			require.ErrorIs(t, err, syscall.EPIPE)
			require.True(t, tr.IsClosing())
			requireRefused(t, tr, net.ErrClosed)
		}
		connectPipe(t, nil, w, rec, nil)
		require.ErrorIs(t, rec.awaitLost(t), syscall.EPIPE)
		rec.wantCalls(t, "made and lost", "ConnectionMade", "ConnectionLost EPIPE")
	})
}

// WP-06: in strand what the peer of a socket sends does not mean that it is
// gone.
func TestWritePipePeerTalks(t *testing.T) {
	w, peer := socketFiles(t)
	rec := newRecorder()
	tr := connectPipe(t, nil, w, rec, nil)
	for range 3 {
		_, err := peer.Write([]byte("I talk"))
		require.NoError(t, err)
		mustWrite(t, tr, []byte("and read"))
		_, err = io.ReadFull(peer, make([]byte, 8))
		require.NoError(t, err)
	}
	require.False(t, tr.IsClosing())
	require.NoError(t, peer.Close())
	require.NoError(t, rec.awaitLost(t))
	rec.wantCalls(t, "nothing is received", "ConnectionMade", "ConnectionLost nil")
}

// WP-09: what was given to Write is not referred to any more.
func TestWritePipeCopies(t *testing.T) {
	peerR, w := osPipe(t)
	tr := connectPipe(t, nil, w, newRecorder(), nil)
	p, want := numbered(1<<20), numbered(1<<20)
	mustWrite(t, tr, p)
	clear(p)
	tr.Close()
	got, err := io.ReadAll(peerR)
	require.NoError(t, err)
	requireSame(t, want, got, "as it was when it was written")
}

// WP-10: in strand a pipe resumes at the low-water mark, as everything does.
func TestWritePipeResumes(t *testing.T) {
	peerR, w := osPipe(t)
	const low = 512 << 10
	rec := newRecorder()
	var tr strand.Transport
	atResume := make(chan int, 1)
	rec.onResume = func() { atResume <- tr.WriteBufferSize() }
	tr = connectPipe(t, nil, w, rec, pipeMarks(low+1, low))
	mustWrite(t, tr, make([]byte, 2<<20))
	rec.awaitCall(t, "PauseWriting")
	require.False(t, tr.Writable())
	held := tr.WriteBufferSize()
	_, err := io.ReadFull(peerR, make([]byte, held-low+128<<10))
	require.NoError(t, err)
	size := await(t, "ResumeWriting", atResume)
	require.Positive(t, size, "the buffer is not empty")
	require.LessOrEqual(t, size, low)
	require.True(t, tr.Writable())
}

// WP-11: Abort drops what is held; all further ends do nothing.
func TestWritePipeAbort(t *testing.T) {
	for name, before := range map[string]func(tr strand.Transport){
		"first":       func(strand.Transport) {},
		"twice":       func(tr strand.Transport) { tr.Abort() },
		"after Close": func(tr strand.Transport) { tr.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			peerR, w := osPipe(t)
			rec := newRecorder()
			tr := connectPipe(t, nil, w, rec, nil)
			written := fill(t, tr)
			rec.awaitCall(t, "PauseWriting")
			before(tr)
			tr.Abort()
			require.NoError(t, rec.awaitLost(t))
			tr.Abort()
			tr.Close()
			require.NoError(t, tr.WriteEOF())
			got, err := io.ReadAll(peerR)
			require.NoError(t, err)
			require.Less(t, len(got), written)
			rec.wantCalls(t, "one end", "ConnectionMade", "PauseWriting", "ConnectionLost nil")
		})
	}
}

// RP-01, WP-01: a device that the poller cannot watch works all the same.
func TestPipeDevices(t *testing.T) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	require.NoError(t, err)
	rec := newRecorder()
	rec.onEOF = func() bool { return true }
	tr := connectPipe(t, null, null, rec, nil)
	rec.awaitCall(t, "EOFReceived")
	mustWrite(t, tr, make([]byte, 1<<20))
	tr.Close()
	require.NoError(t, rec.awaitLost(t))
	requireClosed(t, null)

	zero, err := os.Open("/dev/zero")
	require.NoError(t, err)
	rec = newRecorder()
	rec.onData = func([]byte) { rec.transport().PauseReading() }
	tr = connectPipe(t, zero, nil, rec, nil)
	rec.awaitData(t, 1)
	require.Zero(t, bytes.Trim(rec.received(), "\x00"))
	tr.Close()
	require.NoError(t, rec.awaitLost(t))
	requireClosed(t, zero)
}

// RP-02: no descriptor is left behind, also where files are opened anew.
func TestPipeDescriptors(t *testing.T) {
	for _, k := range pipeKinds {
		t.Run(k.name, func(t *testing.T) {
			before := openDescriptors(t)
			for range 20 {
				r, w, peerW, peerR := k.make(t)
				rec := newRecorder()
				tr := connectPipe(t, r, w, rec, nil)
				mustWrite(t, tr, []byte("x"))
				tr.Abort()
				require.NoError(t, rec.awaitLost(t))
				peerW.Close()
				peerR.Close()
			}
			requireDescriptors(t, before)
		})
	}
}

// RP-07: a panic in any callback of a pipe ends it (EX-11).
func TestPipePanics(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic("on purpose") }, "Goexit": runtime.Goexit} {
		for _, call := range []string{"DataReceived", "EOFReceived", "PauseWriting", "ResumeWriting"} {
			t.Run(name+" in "+call, func(t *testing.T) {
				r, w, peerW, peerR := pipeKinds[0].make(t)
				rec := newRecorder()
				hook := func(in string) {
					if in == call {
						leave()
					}
				}
				rec.onData = func([]byte) { hook("DataReceived") }
				rec.onEOF = func() bool {
					hook("EOFReceived")
					return true
				}
				rec.onPause = func() { hook("PauseWriting") }
				rec.onResume = func() { hook("ResumeWriting") }
				tr := connectPipe(t, r, w, rec, pipeMarks(1, 0))
				switch call {
				case "DataReceived":
					peerW.Write([]byte("x"))
				case "EOFReceived":
					peerW.Close()
				default:
					tr.Write(make([]byte, 1<<20))
					go io.Copy(io.Discard, peerR)
				}
				var panicked *strand.PanicError
				require.ErrorAs(t, rec.awaitLost(t), &panicked)
				requireClosed(t, r)
				requireClosed(t, w)
			})
		}
	}
}

// inTurn runs fn in turn with the callbacks, and waits for it.
func inTurn(t testing.TB, tr strand.BaseTransport, fn func()) {
	t.Helper()
	done := make(chan struct{})
	require.True(t, tr.CallSoon(func() {
		defer close(done)
		fn()
	}))
	await(t, "a turn", done)
}

// RP-01: the protocol may be replaced.
func TestPipeSetProtocol(t *testing.T) {
	r, peerW := osPipe(t)
	first, then := newRecorder(), newRecorder()
	tr := connectPipe(t, r, nil, first, nil)
	then.calls = []string{"ConnectionMade"}
	then.t = tr
	inTurn(t, tr, func() { tr.SetProtocol(then) })
	require.Same(t, then, tr.Protocol())
	peerW.Write([]byte("x"))
	peerW.Close()
	require.NoError(t, then.awaitLost(t))
	first.wantCalls(t, "only the beginning", "ConnectionMade")
	then.wantCalls(t, "all the rest", "ConnectionMade", "DataReceived 1", "EOFReceived", "ConnectionLost nil")
}

// What follows needs a process of its own: this test binary, started again.

// helper returns a command that runs one of the functions in helpers.
func helper(t testing.TB, name string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), "STRAND_TEST_HELPER="+name, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// helpers are main functions, by name. What they return is the exit status.
var helpers = map[string]func() error{
	"echo":   echoHelper,
	"filter": filterHelper,
	"emfile": emfileHelper,
	"reaped": reapedHelper,
}

func TestHelperProcess(t *testing.T) {
	name := os.Getenv("STRAND_TEST_HELPER")
	if name == "" {
		t.Skip("this is for other tests to run")
	}
	if err := helpers[name](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0) // the testing package would print something
}

// echoer sends back what it receives, and heeds its peer.
type echoer struct {
	strand.NopProtocol
	t    strand.Transport
	lost error
}

func (e *echoer) ConnectionMade(t strand.Transport) { e.t = t }
func (e *echoer) DataReceived(data []byte)          { e.t.Write(data) }
func (e *echoer) PauseWriting()                     { e.t.PauseReading() }
func (e *echoer) ResumeWriting()                    { e.t.ResumeReading() }
func (e *echoer) ConnectionLost(err error)          { e.lost = err }

// echoHelper sends its input back through one transport.
func echoHelper() error {
	tr, e, err := strand.ConnectPipe(context.Background(), os.Stdin, os.Stdout, func() *echoer { return new(echoer) }, nil)
	if err != nil {
		return err
	}
	<-tr.Done()
	return e.lost
}

// filterHelper sends its input to its output through two transports, and says
// on standard error what it held at most.
func filterHelper() error {
	out := &filterOutput{in: make(chan strand.Transport, 1)}
	sink, _, err := strand.ConnectWritePipe(context.Background(), os.Stdout, func() *filterOutput { return out }, nil)
	if err != nil {
		return err
	}
	source, in, err := strand.ConnectReadPipe(context.Background(), os.Stdin, func() *filterInput { return &filterInput{out: sink} }, nil)
	if err != nil {
		return err
	}
	out.in <- source
	<-sink.Done()
	source.Abort()
	<-source.Done()
	fmt.Fprintf(os.Stderr, "held %d\n", in.held)
	return out.lost
}

type filterInput struct {
	strand.NopProtocol
	t    strand.Transport
	out  strand.Transport
	held int
}

func (f *filterInput) ConnectionMade(t strand.Transport) { f.t = t }

// DataReceived asks twice: a ResumeWriting may come between the question and
// the pause.
func (f *filterInput) DataReceived(data []byte) {
	f.out.Write(data)
	f.held = max(f.held, f.out.WriteBufferSize())
	if !f.out.Writable() {
		f.t.PauseReading()
		if f.out.Writable() {
			f.t.ResumeReading()
		}
	}
}

func (f *filterInput) EOFReceived() bool {
	f.out.Close()
	return false
}

type filterOutput struct {
	strand.NopProtocol
	in   chan strand.Transport // gets the source
	lost error
}

func (f *filterOutput) ResumeWriting() {
	in := <-f.in
	in.ResumeReading()
	f.in <- in
}

func (f *filterOutput) ConnectionLost(err error) { f.lost = err }

// stdioKinds are what a process may find as its standard input and output.
var stdioKinds = map[string]func(t testing.TB) (stdin, stdout, peerW, peerR *os.File){
	"pipe": func(t testing.TB) (stdin, stdout, peerW, peerR *os.File) {
		stdin, peerW = osPipe(t)
		peerR, stdout = osPipe(t)
		return stdin, stdout, peerW, peerR
	},
	"socket": func(t testing.TB) (stdin, stdout, peerW, peerR *os.File) {
		stdin, peerW = socketFiles(t)
		stdout, peerR = socketFiles(t)
		return stdin, stdout, peerW, peerR
	},
}

// RP-01, WP-01: the process's own standard input and output, which block and
// are shared with this process, work as transports and stay as they are for
// others.
func TestPipeOwnStdio(t *testing.T) {
	for name, files := range stdioKinds {
		for _, program := range []string{"echo", "filter"} {
			t.Run(program+" over a "+name, func(t *testing.T) {
				stdin, stdout, peerW, peerR := files(t)
				cmd := helper(t, program)
				var stderr bytes.Buffer
				cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
				require.NoError(t, cmd.Start())
				want := numbered(4 << 20)
				fed := startFeeding(peerW, want)
				got := readExactly(t, peerR, 1)
				require.True(t, isBlocking(t, stdin), "the description is shared")
				require.True(t, isBlocking(t, stdout), "the description is shared")
				stdin.Close()
				stdout.Close()
				rest, err := io.ReadAll(peerR)
				require.NoError(t, err)
				require.NoError(t, await(t, "all is fed", fed))
				require.NoError(t, cmd.Wait(), "%s", stderr.String())
				requireSame(t, want, append(got, rest...), "what went in came out")
			})
		}
	}
}

// readExactly reads n bytes.
func readExactly(t testing.TB, r io.Reader, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	require.NoError(t, err)
	return p
}

// startFeeding writes data to w and closes it.
func startFeeding(w *os.File, data []byte) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := w.Write(data)
		done <- errors.Join(err, w.Close())
	}()
	return done
}

// FC-13, WP-10: a filter whose consumer does not read stops reading itself: its
// producer cannot get rid of more than the pipes and the buffers take.
func TestPipeFilterBackpressure(t *testing.T) {
	for name, files := range stdioKinds {
		t.Run(name, func(t *testing.T) {
			stdin, stdout, peerW, peerR := files(t)
			cmd := helper(t, "filter")
			var stderr bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
			require.NoError(t, cmd.Start())
			stdin.Close()
			stdout.Close()
			want := numbered(16 << 20)
			fed := startFeeding(peerW, want)
			got := bytes.Buffer{}
			for len(got.Bytes()) < len(want) { // slowly, in pieces smaller than every buffer
				_, err := io.CopyN(&got, peerR, 8<<10)
				require.NoError(t, err)
				if got.Len() < 8<<20 {
					select {
					case err := <-fed:
						t.Fatalf("everything was taken while half was not read: %v", err)
					default:
					}
				}
			}
			require.NoError(t, await(t, "all is fed", fed))
			require.NoError(t, cmd.Wait(), "%s", stderr.String())
			requireSame(t, want, got.Bytes(), "what went in came out")
			var held int
			_, err := fmt.Sscanf(stderr.String(), "held %d", &held)
			require.NoError(t, err)
			require.LessOrEqual(t, held, 64<<10+256<<10, "the mark and one receive")
		})
	}
}

// WP-04: the end of standard output is an error to be told, not a signal to die
// of.
func TestPipeOwnStdoutBroken(t *testing.T) {
	for name, files := range stdioKinds {
		t.Run(name, func(t *testing.T) {
			stdin, stdout, peerW, peerR := files(t)
			cmd := helper(t, "echo")
			var stderr bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
			require.NoError(t, peerR.Close())
			require.NoError(t, cmd.Start())
			stdin.Close()
			stdout.Close()
			_, err := peerW.Write([]byte("x"))
			require.NoError(t, err)
			var exit *exec.ExitError
			require.ErrorAs(t, cmd.Wait(), &exit)
			require.Equal(t, 1, exit.ExitCode(), "not killed by SIGPIPE")
			require.Contains(t, stderr.String(), "broken pipe")
		})
	}
}

// RP-01: a regular file as standard input is refused.
func TestPipeOwnStdinIsAFile(t *testing.T) {
	cmd := helper(t, "echo")
	f, err := os.Open(os.Args[0])
	require.NoError(t, err)
	defer f.Close()
	cmd.Stdin = f
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "pipes, sockets and character devices only")
}
