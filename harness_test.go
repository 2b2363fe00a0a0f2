package strand_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/internal/testkit"
)

const (
	patience     = testkit.Patience
	rounds       = testkit.Rounds
	raceDetector = testkit.Race
)

// ownHost is a loopback address that is ours alone.
var ownHost = testkit.OwnHost()

// recorder is a Protocol that notes every callback as a line of text. The hooks
// run inside the callbacks; set them before the connection is made.
type recorder struct {
	onMade   func(t strand.Transport)
	onData   func(data []byte)
	onEOF    func() bool
	onPause  func()
	onResume func()
	onLost   func(err error)

	mu      sync.Mutex
	t       strand.Transport
	calls   []string      // adjacent DataReceived are joined: "DataReceived 12" counts bytes
	data    []byte        // everything received
	lost    error         // ConnectionLost's argument
	inside  string        // the callback that is running
	broken  []string      // violations of law 1 and 2
	changed chan struct{} // closed and replaced with every call
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

// enter notes a call, and that none may run beside it.
func (r *recorder) enter(call string) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inside != "" {
		r.broken = append(r.broken, call+" inside "+r.inside)
	}
	if n := len(r.calls); n > 0 && strings.HasPrefix(r.calls[n-1], "ConnectionLost") {
		r.broken = append(r.broken, call+" after ConnectionLost")
	} else if n == 0 && call != "ConnectionMade" {
		r.broken = append(r.broken, call+" before ConnectionMade")
	}
	r.inside = call
	r.calls = append(r.calls, call)
	r.tell()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inside = ""
	}
}

func (r *recorder) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) ConnectionMade(t strand.Transport) {
	r.mu.Lock()
	r.t = t // before the call is told to those who wait for it
	r.mu.Unlock()
	defer r.enter("ConnectionMade")()
	if r.onMade != nil {
		r.onMade(t)
	}
}

func (r *recorder) DataReceived(data []byte) {
	defer r.enter("DataReceived")()
	r.mu.Lock()
	if len(data) == 0 {
		r.broken = append(r.broken, "DataReceived of nothing")
	}
	r.data = append(r.data, data...)
	r.calls = r.calls[:len(r.calls)-1]
	total := len(data)
	if n := len(r.calls); n > 0 {
		var before int
		if _, err := fmt.Sscanf(r.calls[n-1], "DataReceived %d", &before); err == nil {
			r.calls = r.calls[:n-1]
			total += before
		}
	}
	r.calls = append(r.calls, fmt.Sprintf("DataReceived %d", total))
	r.tell()
	r.mu.Unlock()
	if r.onData != nil {
		r.onData(data)
	}
}

func (r *recorder) EOFReceived() bool {
	defer r.enter("EOFReceived")()
	return r.onEOF != nil && r.onEOF()
}

func (r *recorder) PauseWriting() {
	defer r.enter("PauseWriting")()
	if r.onPause != nil {
		r.onPause()
	}
}

func (r *recorder) ResumeWriting() {
	defer r.enter("ResumeWriting")()
	if r.onResume != nil {
		r.onResume()
	}
}

func (r *recorder) ConnectionLost(err error) {
	defer r.enter("ConnectionLost " + errName(err))()
	r.mu.Lock()
	r.lost = err
	r.mu.Unlock()
	if r.onLost != nil {
		r.onLost(err)
	}
}

// errName is an error as the traces show it.
func errName(err error) string {
	var errno syscall.Errno
	var panicked *strand.PanicError
	switch {
	case err == nil:
		return "nil"
	case errors.As(err, &panicked):
		return "panic"
	case errors.As(err, &errno):
		return errnoName(errno)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	return err.Error()
}

func errnoName(e syscall.Errno) string {
	switch e {
	case syscall.ECONNRESET:
		return "ECONNRESET"
	case syscall.EPIPE:
		return "EPIPE"
	case syscall.ENOTCONN:
		return "ENOTCONN"
	}
	return e.Error()
}

// transport is the one that ConnectionMade got.
func (r *recorder) transport() strand.Transport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.t
}

// trace returns the calls so far.
func (r *recorder) trace() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// received returns all bytes so far.
func (r *recorder) received() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.data)
}

// await waits until cond, which is called under the recorder's lock, is true.
func (r *recorder) await(t testing.TB, why string, cond func() bool) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		ok, changed, calls := cond(), r.changed, slices.Clone(r.calls)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			t.Fatalf("never happened: %s; calls so far: %v", why, calls)
		}
	}
}

// awaitCall waits for a callback by the beginning of its line.
func (r *recorder) awaitCall(t testing.TB, call string) {
	t.Helper()
	r.await(t, call, func() bool {
		return slices.ContainsFunc(r.calls, func(c string) bool { return strings.HasPrefix(c, call) })
	})
}

// awaitData waits until at least n bytes were received.
func (r *recorder) awaitData(t testing.TB, n int) {
	t.Helper()
	r.await(t, fmt.Sprintf("%d bytes", n), func() bool { return len(r.data) >= n })
}

// awaitLost waits for ConnectionLost to have returned, and returns its error.
func (r *recorder) awaitLost(t testing.TB) error {
	t.Helper()
	r.awaitCall(t, "ConnectionLost")
	await(t, "Done", r.transport().Done())
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// wantCalls compares the whole trace, and that the laws were kept.
func (r *recorder) wantCalls(t testing.TB, why string, want ...string) {
	t.Helper()
	require.Equal(t, want, r.trace(), why)
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Empty(t, r.broken, "callbacks run one at a time, made first and lost last")
}

// await waits for a channel to be closed or to have something.
func await[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	return testkit.Await(t, what, ch)
}

// A kind is a way to connect two ends that the transport must not tell apart.
type kind struct {
	name string
	// pair returns the transport's end and the peer's. Both are closed with
	// the test.
	pair func(t testing.TB) (ours, peer net.Conn)
}

// kinds are a socket of each sort on the fast path, and on the portable one.
var kinds = []kind{
	{"tcp", tcpPair},
	{"unix", unixPair},
	{"portable", portablePair},
}

// eachKind runs a test over every kind of connection.
func eachKind(t *testing.T, test func(t *testing.T, k kind)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

func tcpPair(t testing.TB) (ours, peer net.Conn) { return testkit.SocketPair(t, "tcp", "127.0.0.1:0") }

func unixPair(t testing.TB) (ours, peer net.Conn) {
	return testkit.SocketPair(t, "unix", filepath.Join(shortTempDir(t), "s"))
}

func shortTempDir(t testing.TB) string { return testkit.ShortTempDir(t) }

// foreign hides what a conn is, so that only its methods can be used.
type foreign struct{ net.Conn }

func (f foreign) CloseWrite() error { return f.Conn.(interface{ CloseWrite() error }).CloseWrite() }

func portablePair(t testing.TB) (ours, peer net.Conn) {
	ours, peer = tcpPair(t)
	return foreign{ours}, peer
}

// attach makes conn a transport of r. The connection is aborted with the test,
// and its end waited for.
func attach(t testing.TB, conn net.Conn, r *recorder, opts *strand.AttachOptions) strand.Transport {
	t.Helper()
	tr, p, err := strand.Attach(context.Background(), conn, func() *recorder { return r }, opts)
	require.NoError(t, err)
	require.Same(t, r, p)
	t.Cleanup(func() {
		tr.Abort()
		await(t, "the end after Abort", tr.Done())
	})
	return tr
}

// connected is attach over a new pair of kind k.
func connected(t testing.TB, k kind, r *recorder, opts *strand.AttachOptions) (tr strand.Transport, peer net.Conn) {
	t.Helper()
	ours, peer := k.pair(t)
	return attach(t, ours, r, opts), peer
}

// logTo returns options whose logger writes to b, with debug records.
func logTo(b *logBuffer) strand.TransportOptions {
	return strand.TransportOptions{Logger: b.Logger(slog.LevelDebug)}
}

// quiet is a logger for tests that provoke log records on purpose.
var quiet = slog.New(slog.DiscardHandler)

type logBuffer = testkit.LogBuffer

// reset makes a TCP peer close with RST.
func reset(t testing.TB, peer net.Conn) {
	t.Helper()
	require.NoError(t, peer.(*net.TCPConn).SetLinger(0))
	require.NoError(t, peer.Close())
}

// fill writes until the kernel takes no more and output is held.
func fill(t testing.TB, tr strand.Transport) (written int) {
	t.Helper()
	p := make([]byte, 256<<10)
	for tr.WriteBufferSize() == 0 {
		n, err := tr.Write(p)
		require.NoError(t, err)
		written += n
	}
	return written
}

// readAll reads all that the peer gets, and ends at EOF.
func readAll(t testing.TB, peer net.Conn) []byte {
	t.Helper()
	require.NoError(t, peer.SetReadDeadline(time.Now().Add(patience)))
	b, err := io.ReadAll(peer)
	require.NoError(t, err)
	return b
}

// requireDescriptors checks that no descriptor is open that was not before. One that
// is still being closed is waited for, but not the garbage collector, which would
// close what was forgotten. Fewer are no mistake: the collector may have closed
// those of an earlier test.
func requireDescriptors(t testing.TB, before int, why ...any) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	open := openDescriptors(t)
	for start := time.Now(); open > before && time.Since(start) < patience; open = openDescriptors(t) {
		runtime.Gosched()
	}
	require.LessOrEqual(t, open, before, why...)
}

// openDescriptors counts this process's descriptors.
func openDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("descriptors are counted through /proc")
	}
	return len(entries)
}
