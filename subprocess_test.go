//go:build unix

package strand_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// childRecorder is a recorder for a SubprocessProtocol. PipeDataReceived is
// not among its calls, for nobody can say how a pipe cuts its data.
type childRecorder struct {
	*recorder
	hook func(call string, fd int) // runs inside every callback, if there is one

	// Under the recorder's lock.
	child strand.SubprocessTransport
	out   [3][]byte
}

func newChildRecorder() *childRecorder { return &childRecorder{recorder: newRecorder()} }

func (c *childRecorder) callback(call string, fd int) {
	defer c.enter(strings.TrimSpace(call))()
	if c.hook != nil {
		name, _, _ := strings.Cut(call, " ")
		c.hook(name, fd)
	}
}

func (c *childRecorder) ConnectionMade(t strand.SubprocessTransport) {
	c.mu.Lock()
	c.child = t
	c.mu.Unlock()
	c.callback("ConnectionMade", -1)
}

func (c *childRecorder) PipeDataReceived(fd int, data []byte) {
	leave := c.enter("PipeDataReceived")
	defer leave()
	c.mu.Lock()
	c.calls = c.calls[:len(c.calls)-1]
	if slices.ContainsFunc(c.calls, func(call string) bool { return strings.HasPrefix(call, lostPipe(fd)) }) {
		c.broken = append(c.broken, "PipeDataReceived after "+lostPipe(fd))
	}
	if len(data) == 0 {
		c.broken = append(c.broken, "PipeDataReceived of nothing")
	}
	c.out[fd] = append(c.out[fd], data...)
	c.tell()
	c.mu.Unlock()
	if c.hook != nil {
		c.hook("PipeDataReceived", fd)
	}
}

func lostPipe(fd int) string { return "PipeConnectionLost " + strconv.Itoa(fd) }

func (c *childRecorder) PipeConnectionLost(fd int, err error) {
	c.callback(lostPipe(fd)+" "+errName(err), fd)
}
func (c *childRecorder) ProcessExited() { c.callback("ProcessExited", -1) }
func (c *childRecorder) PauseWriting()  { c.callback("PauseWriting", -1) }
func (c *childRecorder) ResumeWriting() { c.callback("ResumeWriting", -1) }
func (c *childRecorder) ConnectionLost(err error) {
	c.mu.Lock()
	c.lost = err
	c.mu.Unlock()
	c.callback("ConnectionLost "+errName(err), -1)
}

// output is what the child has written to fd so far.
func (c *childRecorder) output(fd int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.out[fd])
}

func (c *childRecorder) awaitOutput(t testing.TB, fd int, want string) {
	t.Helper()
	c.await(t, want, func() bool { return strings.Contains(string(c.out[fd]), want) })
}

// awaitEnd waits for Done and returns ConnectionLost's error.
func (c *childRecorder) awaitEnd(t testing.TB) error {
	t.Helper()
	c.awaitCall(t, "ConnectionLost")
	await(t, "Done", c.child.Done())
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// wantEvents compares the calls, of which only the first and the last have a
// fixed place (SU-03).
func (c *childRecorder) wantEvents(t testing.TB, why string, want ...string) {
	t.Helper()
	calls := c.trace()
	require.GreaterOrEqual(t, len(calls), 2)
	require.Equal(t, "ConnectionMade", calls[0], why)
	require.Equal(t, want[len(want)-1], calls[len(calls)-1], why)
	slices.Sort(calls[1 : len(calls)-1])
	slices.Sort(want[:len(want)-1])
	require.Equal(t, want, calls[1:], why)
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Empty(t, c.broken, "callbacks run one at a time, made first and lost last")
}

// spawn starts a child, which is killed with the test.
func spawn(t testing.TB, c *childRecorder, opts *strand.SubprocessOptions, argv ...string) strand.SubprocessTransport {
	t.Helper()
	tr, p, err := strand.SubprocessExec(context.Background(), argv, func() *childRecorder { return c }, opts)
	require.NoError(t, err)
	require.Same(t, c, p)
	endChildWithTest(t, tr)
	return tr
}

func endChildWithTest(t testing.TB, tr strand.SubprocessTransport) {
	t.Cleanup(func() {
		tr.Close()
		await(t, "the end after Close", tr.Done())
	})
}

func shell(t testing.TB, c *childRecorder, opts *strand.SubprocessOptions, command string) strand.SubprocessTransport {
	t.Helper()
	return spawn(t, c, opts, "/bin/sh", "-c", command)
}

// quietChild are options for tests that provoke log records.
func quietChild() *strand.SubprocessOptions {
	return &strand.SubprocessOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}
}

// requireNoChildren checks that no zombie is left.
func requireNoChildren(t testing.TB) {
	t.Helper()
	_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	require.ErrorIs(t, err, syscall.ECHILD, "there is nothing to wait for")
}

// descriptorsAfterOne counts the descriptors when those are there that the first
// child needs for ever.
func descriptorsAfterOne(t testing.TB) int {
	t.Helper()
	c := newChildRecorder()
	spawn(t, c, nil, "true")
	require.NoError(t, c.awaitEnd(t))
	return openDescriptors(t)
}

func requireExit(t testing.TB, tr strand.SubprocessTransport, want int) {
	t.Helper()
	code, exited := tr.ReturnCode()
	require.True(t, exited)
	require.Equal(t, want, code)
}

func requireProcessDone(t testing.TB, tr strand.SubprocessTransport) {
	t.Helper()
	require.ErrorIs(t, tr.Kill(), os.ErrProcessDone)
	require.ErrorIs(t, tr.Terminate(), os.ErrProcessDone)
	require.ErrorIs(t, tr.SendSignal(syscall.SIGALRM), os.ErrProcessDone)
}

// allLost are the events of a child without errors.
var allLost = []string{"PipeConnectionLost 0 nil", "PipeConnectionLost 1 nil", "PipeConnectionLost 2 nil", "ProcessExited", "ConnectionLost nil"}

// SU-01, SU-02, SU-03, SU-04, SU-07: by default there are three pipes; each
// event comes once; data before the end of their pipe; the end of all last.
func TestSubprocessEvents(t *testing.T) {
	c := newChildRecorder()
	c.hook = func(call string, _ int) {
		switch call {
		case "ProcessExited":
			requireExit(t, c.child, 3)
			requireProcessDone(t, c.child)
		case "ConnectionLost":
			require.True(t, c.child.IsClosing())
		}
	}
	tr := shell(t, c, nil, "read line; echo out $line; echo err $line >&2; exit 3")
	_, exited := tr.ReturnCode()
	require.False(t, exited, "it waits for a line")
	require.Positive(t, tr.Pid())
	mustWrite(t, tr.PipeTransport(0), []byte("hello\n"))
	require.NoError(t, c.awaitEnd(t))
	require.Equal(t, "out hello\n", c.output(1))
	require.Equal(t, "err hello\n", c.output(2))
	c.wantEvents(t, "everything once", slices.Clone(allLost)...)
	requireNoChildren(t)
}

// SU-01: what happens during ConnectionMade is delivered after it, and the
// wait for the child does not wait for it.
func TestSubprocessEndsDuringConnectionMade(t *testing.T) {
	c := newChildRecorder()
	c.hook = func(call string, _ int) {
		if call == "ConnectionMade" {
			deadline := time.Now().Add(patience)
			for exited := false; !exited && time.Now().Before(deadline); runtime.Gosched() {
				_, exited = c.child.ReturnCode()
			}
			requireExit(t, c.child, 0)
			requireNoChildren(t)
		}
	}
	spawn(t, c, nil, "echo", "quick")
	require.NoError(t, c.awaitEnd(t))
	require.Equal(t, "quick\n", c.output(1))
	c.wantEvents(t, "all after ConnectionMade", slices.Clone(allLost)...)
}

// pattern is what the big tests send: every window of it differs.
var pattern = func() []byte {
	p := make([]byte, 1000003)
	for i := range p {
		p[i] = byte(i*7 + i>>8 + i>>16)
	}
	return append(p, p...)
}()

// piece is n bytes of the endless pattern from offset on, n below a million.
func piece(offset, n int) []byte {
	offset %= len(pattern) / 2
	return pattern[offset : offset+n]
}

// bigCat sends size bytes through a child and compares what comes back. It
// heeds PauseWriting.
type bigCat struct {
	strand.NopSubprocessProtocol
	size, sent, got int
	t               strand.SubprocessTransport
	pauses, resumes int
	wrong           string
	lost            chan error
}

func (b *bigCat) ConnectionMade(t strand.SubprocessTransport) {
	b.t = t
	b.send()
}

func (b *bigCat) send() {
	for b.sent < b.size && b.t.PipeTransport(0).Writable() {
		n, err := b.t.PipeTransport(0).Write(piece(b.sent, min(100_000, b.size-b.sent)))
		if err != nil {
			b.wrong = err.Error()
			return
		}
		b.sent += n
	}
	if b.sent == b.size {
		b.t.PipeTransport(0).WriteEOF()
	}
}

func (b *bigCat) PauseWriting() { b.pauses++ }
func (b *bigCat) ResumeWriting() {
	if b.resumes++; b.resumes != b.pauses {
		b.wrong = "resumed without a pause"
	}
	b.send()
}

func (b *bigCat) PipeDataReceived(fd int, data []byte) {
	if !bytes.Equal(data, piece(b.got, len(data))) && b.wrong == "" {
		b.wrong = fmt.Sprintf("wrong bytes near %d", b.got)
	}
	b.got += len(data)
}

func (b *bigCat) ConnectionLost(err error) { b.lost <- err }

// SU-02, SU-13: 64 MiB through cat, with small buffers, byte by byte the same.
func TestSubprocessCat64MiB(t *testing.T) {
	b := &bigCat{size: 64 << 20, lost: make(chan error, 1)}
	opts := &strand.SubprocessOptions{TransportOptions: strand.TransportOptions{WriteBufferHigh: 4096, WriteBufferLow: 1024}}
	_, _, err := strand.SubprocessExec(context.Background(), []string{"cat"}, func() *bigCat { return b }, opts)
	require.NoError(t, err)
	require.NoError(t, await(t, "the end", b.lost))
	require.Empty(t, b.wrong)
	require.Equal(t, b.size, b.got)
	require.Positive(t, b.pauses)
	require.Equal(t, b.pauses, b.resumes)
}

// SU-02: many children at once, no zombie and no descriptor left of any.
func TestSubprocess200(t *testing.T) {
	before := descriptorsAfterOne(t)
	var all []*childRecorder
	for i := range 200 {
		c := newChildRecorder()
		tr := spawn(t, c, nil, "cat")
		mustWrite(t, tr.PipeTransport(0), fmt.Appendf(nil, "child %d", i))
		all = append(all, c)
	}
	for i, c := range all {
		c.awaitOutput(t, 1, fmt.Sprintf("child %d", i))
	}
	for _, c := range all {
		c.child.PipeTransport(0).Close()
	}
	for _, c := range all {
		require.NoError(t, c.awaitEnd(t))
		requireExit(t, c.child, 0)
		c.wantEvents(t, "a whole life", slices.Clone(allLost)...)
	}
	requireNoChildren(t)
	requireDescriptors(t, before)
}

// SU-04: a grandchild that holds standard output delays ConnectionLost and not
// ProcessExited.
func TestSubprocessGrandchild(t *testing.T) {
	c := newChildRecorder()
	tr := shell(t, c, nil, "sleep 1000 2>/dev/null </dev/null & echo $!")
	c.awaitOutput(t, 1, "\n")
	grandchild, err := strconv.Atoi(strings.TrimSpace(c.output(1)))
	require.NoError(t, err)
	defer syscall.Kill(grandchild, syscall.SIGKILL)
	c.awaitCall(t, "ProcessExited")
	c.awaitCall(t, lostPipe(0))
	c.awaitCall(t, lostPipe(2))
	requireExit(t, tr, 0)
	require.False(t, tr.IsClosing(), "SU-09")
	require.NotContains(t, c.trace(), "ConnectionLost nil")
	require.True(t, tr.CallSoon(func() {}))
	require.NoError(t, syscall.Kill(grandchild, syscall.SIGKILL))
	require.NoError(t, c.awaitEnd(t))
	c.wantEvents(t, "a whole life", slices.Clone(allLost)...)
}

// SU-04, SU-08: Close, and the end of the context, also get rid of pipes that
// a grandchild holds.
func TestSubprocessCloseWithGrandchild(t *testing.T) {
	cause := errors.New("enough")
	for name, tt := range map[string]struct {
		end  func(tr strand.SubprocessTransport, cancel func(error))
		want error
	}{
		"Close":   {func(tr strand.SubprocessTransport, _ func(error)) { tr.Close() }, nil},
		"context": {func(_ strand.SubprocessTransport, cancel func(error)) { cancel(cause) }, cause},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			c := newChildRecorder()
			tr, _, err := strand.SubprocessShell(ctx, "sleep 1000 2>/dev/null </dev/null & echo $!", func() *childRecorder { return c }, nil)
			require.NoError(t, err)
			endChildWithTest(t, tr)
			c.awaitOutput(t, 1, "\n")
			grandchild, err := strconv.Atoi(strings.TrimSpace(c.output(1)))
			require.NoError(t, err)
			defer syscall.Kill(grandchild, syscall.SIGKILL)
			c.awaitCall(t, "ProcessExited")
			tt.end(tr, cancel)
			require.ErrorIs(t, c.awaitEnd(t), tt.want)
			requireExit(t, tr, 0)
		})
	}
}

// SU-04: ProcessGroup makes kills reach grandchildren.
func TestSubprocessGroup(t *testing.T) {
	for name, end := range map[string]struct {
		signal syscall.Signal
		call   func(tr strand.SubprocessTransport) error
	}{
		"Close":      {syscall.SIGKILL, func(tr strand.SubprocessTransport) error { return tr.Close() }},
		"Kill":       {syscall.SIGKILL, func(tr strand.SubprocessTransport) error { return tr.Kill() }},
		"Terminate":  {syscall.SIGTERM, func(tr strand.SubprocessTransport) error { return tr.Terminate() }},
		"SendSignal": {syscall.SIGALRM, func(tr strand.SubprocessTransport) error { return tr.SendSignal(syscall.SIGALRM) }},
	} {
		for _, setsid := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %v", name, setsid), func(t *testing.T) {
				r, w := osPipe(t) // the grandchild's: its end is the grandchild's end
				c := newChildRecorder()
				opts := quietChild()
				opts.ProcessGroup = true
				opts.SysProcAttr = &syscall.SysProcAttr{Setsid: setsid}
				opts.ExtraFiles = []*os.File{w}
				tr := shell(t, c, opts, "sleep 1000 & exec 3>&-; echo ready; wait")
				require.NoError(t, w.Close())
				c.awaitOutput(t, 1, "ready")
				require.NoError(t, end.call(tr))
				require.NoError(t, c.awaitEnd(t))
				requireExit(t, tr, -int(end.signal))
				require.NoError(t, r.SetReadDeadline(time.Now().Add(patience)))
				n, err := r.Read(make([]byte, 1))
				require.Zero(t, n)
				require.Error(t, err)
				require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the grandchild is gone")
				requireProcessDone(t, tr)
			})
		}
	}
}

// SU-05: exit statuses and signals.
func TestSubprocessReturnCode(t *testing.T) {
	for command, want := range map[string]int{
		"exit 0":              0,
		"exit 7":              7,
		"exit 255":            255,
		"kill -KILL $$":       -9,
		"kill -SEGV $$":       -11,
		"kill -TERM $$":       -15,
		"kill -ALRM $$":       -14,
		"exec sh -c exit\\ 5": 5,
	} {
		t.Run(command, func(t *testing.T) {
			c := newChildRecorder()
			tr := shell(t, c, nil, command)
			require.NoError(t, c.awaitEnd(t))
			requireExit(t, tr, want)
		})
	}
	t.Run("signals", func(t *testing.T) {
		for want, send := range map[int]func(tr strand.SubprocessTransport) error{
			-9:  strand.SubprocessTransport.Kill,
			-15: strand.SubprocessTransport.Terminate,
			-14: func(tr strand.SubprocessTransport) error { return tr.SendSignal(syscall.SIGALRM) },
		} {
			c := newChildRecorder()
			tr := spawn(t, c, nil, "cat")
			require.NoError(t, send(tr))
			require.NoError(t, c.awaitEnd(t))
			requireExit(t, tr, want)
			requireProcessDone(t, tr) // SU-10
		}
	})
}

// SU-05: a child that ignores SIGTERM goes on, and is killed.
func TestSubprocessIgnoresSIGTERM(t *testing.T) {
	c := newChildRecorder()
	tr := shell(t, c, nil, "trap '' TERM; echo ready; exec cat")
	c.awaitOutput(t, 1, "ready\n")
	require.NoError(t, tr.Terminate())
	mustWrite(t, tr.PipeTransport(0), []byte("still here"))
	c.awaitOutput(t, 1, "still here")
	require.NoError(t, tr.Kill())
	require.NoError(t, c.awaitEnd(t))
	requireExit(t, tr, -9)
}

// SU-06: PipeTransport is there for pipes, and stays after the end.
func TestSubprocessPipeTransport(t *testing.T) {
	out, err := os.CreateTemp(t.TempDir(), "out")
	require.NoError(t, err)
	defer out.Close()
	for name, tt := range map[string]struct {
		opts strand.SubprocessOptions
		want [3]bool
	}{
		"default":  {strand.SubprocessOptions{}, [3]bool{true, true, true}},
		"stderr":   {strand.SubprocessOptions{Stderr: strand.StdioStdout}, [3]bool{true, true, false}},
		"null":     {strand.SubprocessOptions{Stdin: strand.StdioNull, Stdout: strand.StdioNull, Stderr: strand.StdioPipe}, [3]bool{false, false, true}},
		"file":     {strand.SubprocessOptions{Stdout: strand.StdioFile(out), Stderr: strand.StdioStdout}, [3]bool{true, false, false}},
		"inherit":  {strand.SubprocessOptions{Stdin: strand.StdioInherit, Stderr: strand.StdioInherit}, [3]bool{false, true, false}},
		"no pipes": {strand.SubprocessOptions{Stdin: strand.StdioNull, Stdout: strand.StdioNull, Stderr: strand.StdioStdout}, [3]bool{}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChildRecorder()
			tr := shell(t, c, &tt.opts, "exit 0")
			events := []string{"ProcessExited"}
			check := func() {
				for fd, want := range tt.want {
					require.Equal(t, want, tr.PipeTransport(fd) != nil, fd)
				}
				require.Nil(t, tr.PipeTransport(-1))
				require.Nil(t, tr.PipeTransport(3))
			}
			check()
			require.NoError(t, c.awaitEnd(t))
			check()
			for fd, want := range tt.want {
				if want {
					events = append(events, lostPipe(fd)+" nil")
					require.True(t, tr.PipeTransport(fd).IsClosing())
				}
			}
			c.wantEvents(t, "one end for each pipe", append(events, "ConnectionLost nil")...)
		})
	}
	requireOpenFile(t, out)
}

// SU-06: standard error into standard output, and both into a file.
func TestSubprocessRedirect(t *testing.T) {
	c := newChildRecorder()
	shell(t, c, &strand.SubprocessOptions{Stderr: strand.StdioStdout}, "echo out; echo err >&2")
	require.NoError(t, c.awaitEnd(t))
	require.Equal(t, "out\nerr\n", c.output(1))

	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, []byte("from the file"), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	c = newChildRecorder()
	spawn(t, c, &strand.SubprocessOptions{Stdin: strand.StdioFile(f)}, "cat")
	require.NoError(t, c.awaitEnd(t))
	require.Equal(t, "from the file", c.output(1))
	requireOpenFile(t, f)
}

// SU-01: Dir, Env and ExtraFiles are those of os/exec.
func TestSubprocessSettings(t *testing.T) {
	dir := t.TempDir()
	r, w := osPipe(t)
	c := newChildRecorder()
	shell(t, c, &strand.SubprocessOptions{Dir: dir, Env: []string{"A=b c"}, ExtraFiles: []*os.File{w}}, `pwd -P; echo "$A"; echo extra >&3`)
	require.NoError(t, c.awaitEnd(t))
	dir, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	require.Equal(t, dir+"\nb c\n", c.output(1))
	require.Equal(t, "extra\n", string(readExactly(t, r, 6)))
}

// SU-08: Close kills, and every callback still comes. A second call does
// nothing.
func TestSubprocessClose(t *testing.T) {
	c := newChildRecorder()
	tr := spawn(t, c, nil, "cat")
	fill(t, tr.PipeTransport(0)) // what is held is lost
	require.False(t, tr.IsClosing())
	tr.Close()
	require.True(t, tr.IsClosing())
	tr.Close()
	require.NoError(t, c.awaitEnd(t))
	requireExit(t, tr, -9)
	requireNoChildren(t)
	tr.Close()
	require.ErrorIs(t, context.Cause(tr.Context()), net.ErrClosed)
	require.Equal(t, "ConnectionLost nil", c.trace()[len(c.trace())-1])
	for _, e := range allLost {
		require.Contains(t, c.trace(), e)
	}
	require.False(t, tr.CallSoon(func() {}))
}

// SU-08, SU-09: Close after the end does nothing and kills nobody.
func TestSubprocessCloseAfterExit(t *testing.T) {
	c := newChildRecorder()
	tr := shell(t, c, nil, "exit 4")
	require.NoError(t, c.awaitEnd(t))
	tr.Close()
	requireExit(t, tr, 4)
	c.wantEvents(t, "nothing more", slices.Clone(allLost)...)
	requireProcessDone(t, tr)
}

// SU-08: in Debug the killing of a running child is logged.
func TestSubprocessCloseIsLogged(t *testing.T) {
	var log logBuffer
	opts := &strand.SubprocessOptions{TransportOptions: logTo(&log)}
	opts.Debug = true
	c := newChildRecorder()
	tr := spawn(t, c, opts, "cat")
	tr.Close()
	require.NoError(t, c.awaitEnd(t))
	require.Contains(t, log.String(), "level=WARN msg=\"strand: killing a running child\"")
	require.Contains(t, log.String(), "transport.pid="+strconv.Itoa(tr.Pid()))
}

// SU-08: a callback that waits for the end is released by Close: Context ends
// when the end is decided.
func TestSubprocessContext(t *testing.T) {
	c := newChildRecorder()
	inside := make(chan struct{})
	c.hook = func(call string, _ int) {
		if call == "PipeDataReceived" {
			close(inside)
			<-c.child.Context().Done()
		}
	}
	tr := shell(t, c, nil, "echo x; exec cat")
	await(t, "the callback", inside)
	tr.Close()
	require.NoError(t, c.awaitEnd(t))
	c.wantEvents(t, "a whole life", slices.Clone(allLost)...)
}

// SU-10: no signal is sent once the exit is known, whatever races.
func TestSubprocessSignalRace(t *testing.T) {
	for _, group := range []bool{false, true} {
		for range 20 {
			c := newChildRecorder()
			tr := shell(t, c, &strand.SubprocessOptions{ProcessGroup: group}, "exit 0")
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					if err := tr.SendSignal(syscall.Signal(0)); err != nil {
						require.ErrorIs(t, err, os.ErrProcessDone)
						return
					}
				}
			}()
			require.NoError(t, c.awaitEnd(t))
			await(t, "the exit is known", done)
			requireExit(t, tr, 0)
			requireProcessDone(t, tr)
		}
	}
}

// SU-11: a program that cannot be started is an error that says why. The
// protocol hears nothing, and nothing is left.
func TestSubprocessCannotStart(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, []byte("no program"), 0o600))
	before := descriptorsAfterOne(t)
	for name, tt := range map[string]struct {
		program string
		opts    strand.SubprocessOptions
		want    error
	}{
		"missing in the PATH": {"no-such-program-anywhere", strand.SubprocessOptions{}, fs.ErrNotExist},
		"missing path":        {filepath.Join(dir, "missing"), strand.SubprocessOptions{}, fs.ErrNotExist},
		"not executable":      {plain, strand.SubprocessOptions{}, fs.ErrPermission},
		"a directory":         {dir, strand.SubprocessOptions{}, fs.ErrPermission},
		"missing Dir":         {"true", strand.SubprocessOptions{Dir: filepath.Join(dir, "missing")}, fs.ErrNotExist},
		"Dir is a file":       {"true", strand.SubprocessOptions{Dir: plain}, syscall.ENOTDIR},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChildRecorder()
			asked := 0
			tr, p, err := strand.SubprocessExec(context.Background(), []string{tt.program}, func() *childRecorder {
				asked++
				return c
			}, &tt.opts)
			require.ErrorIs(t, err, tt.want)
			require.Nil(t, tr)
			require.Nil(t, p)
			require.Equal(t, 1, asked)
			require.Empty(t, c.trace())
		})
	}
	requireDescriptors(t, before)
	requireNoChildren(t)
}

// SU-12: standard input ends cleanly if nothing was held when the child closed
// it, and with EPIPE otherwise. The child lives on.
func TestSubprocessClosesStdin(t *testing.T) {
	c := newChildRecorder()
	tr := shell(t, c, nil, "read go; exec 0<&-; exec sleep 1000")
	mustWrite(t, tr.PipeTransport(0), []byte("go\n"))
	c.awaitCall(t, "PipeConnectionLost 0 nil")
	_, exited := tr.ReturnCode()
	require.False(t, exited)
	requireRefused(t, tr.PipeTransport(0), net.ErrClosed)

	r, w := osPipe(t)
	c = newChildRecorder()
	tr = shell(t, c, &strand.SubprocessOptions{ExtraFiles: []*os.File{r}}, "read go <&3; exec 0<&-; exec sleep 1000")
	fill(t, tr.PipeTransport(0))
	c.awaitCall(t, "PauseWriting")
	_, err := w.WriteString("go\n")
	require.NoError(t, err)
	c.awaitCall(t, "PipeConnectionLost 0 EPIPE")
	_, exited = tr.ReturnCode()
	require.False(t, exited)
}

// SU-12: closing the pipe to standard input is the child's end of file.
func TestSubprocessWriteEOF(t *testing.T) {
	for name, end := range map[string]func(strand.Transport) error{"Close": strand.Transport.Close, "WriteEOF": strand.Transport.WriteEOF} {
		t.Run(name, func(t *testing.T) {
			c := newChildRecorder()
			tr := spawn(t, c, nil, "cat")
			want := numbered(300_000)
			mustWrite(t, tr.PipeTransport(0), want)
			require.NoError(t, end(tr.PipeTransport(0)))
			require.NoError(t, c.awaitEnd(t))
			requireSame(t, want, []byte(c.output(1)), "all of it")
			requireExit(t, tr, 0)
		})
	}
}

// SU-13: a child that never reads pauses the protocol; its end ends all.
func TestSubprocessNeverReads(t *testing.T) {
	c := newChildRecorder()
	tr := spawn(t, c, nil, "sleep", "1000")
	fill(t, tr.PipeTransport(0))
	c.awaitCall(t, "PauseWriting")
	require.False(t, tr.PipeTransport(0).Writable())
	require.NoError(t, tr.Kill())
	require.NoError(t, c.awaitEnd(t))
	require.NotContains(t, c.trace(), "ResumeWriting")
	require.Contains(t, c.trace(), "PipeConnectionLost 0 EPIPE")
}

// SU-14: closing this end of standard output comes at once, and gives the
// child SIGPIPE, which children start with the default of.
func TestSubprocessCloseStdout(t *testing.T) {
	c := newChildRecorder()
	tr := spawn(t, c, nil, "yes")
	c.awaitOutput(t, 1, "y\n")
	tr.PipeTransport(1).Close()
	require.NoError(t, c.awaitEnd(t))
	requireExit(t, tr, -13)
	c.wantEvents(t, "no error", slices.Clone(allLost)...)
}

// SU-14: paused standard output stops the child.
func TestSubprocessPauseStdout(t *testing.T) {
	c := newChildRecorder()
	c.hook = func(call string, fd int) {
		if call == "ConnectionMade" {
			c.child.PipeTransport(1).PauseReading()
		}
	}
	tr := shell(t, c, nil, "head -c 1000000 /dev/zero; echo done >&2")
	mustWrite(t, tr.PipeTransport(0), []byte("x"))
	require.Empty(t, c.output(1))
	require.Empty(t, c.output(2), "its output does not fit a pipe")
	tr.PipeTransport(1).ResumeReading()
	require.NoError(t, c.awaitEnd(t))
	require.Len(t, c.output(1), 1000000)
	require.Equal(t, "done\n", c.output(2))
}

// SU-15: bad arguments are refused before anything is started.
func TestSubprocessBadArguments(t *testing.T) {
	closed, _ := osPipe(t)
	require.NoError(t, closed.Close())
	for name, tt := range map[string]struct {
		argv []string
		opts strand.SubprocessOptions
	}{
		"no program":       {nil, strand.SubprocessOptions{}},
		"empty program":    {[]string{""}, strand.SubprocessOptions{}},
		"NUL":              {[]string{"echo", "a\x00b"}, strand.SubprocessOptions{}},
		"stdin to stdout":  {[]string{"true"}, strand.SubprocessOptions{Stdin: strand.StdioStdout}},
		"stdout to stdout": {[]string{"true"}, strand.SubprocessOptions{Stdout: strand.StdioStdout}},
		"nil file":         {[]string{"true"}, strand.SubprocessOptions{Stdout: strand.StdioFile(nil)}},
		"closed file":      {[]string{"true"}, strand.SubprocessOptions{Stdin: strand.StdioFile(closed)}},
		"idle timeout":     {[]string{"true"}, strand.SubprocessOptions{TransportOptions: strand.TransportOptions{IdleTimeout: time.Hour}}},
		"marks":            {[]string{"true"}, strand.SubprocessOptions{TransportOptions: strand.TransportOptions{WriteBufferHigh: 1, WriteBufferLow: 2}}},
		"foreign group":    {[]string{"true"}, strand.SubprocessOptions{ProcessGroup: true, SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pgid: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChildRecorder()
			tr, _, err := strand.SubprocessExec(context.Background(), tt.argv, func() *childRecorder { return c }, &tt.opts)
			require.Error(t, err)
			require.Nil(t, tr)
			require.Empty(t, c.trace())
		})
	}
	_, _, err := strand.SubprocessExec[strand.SubprocessProtocol](context.Background(), []string{"true"}, nil, nil)
	require.Error(t, err)
	_, _, err = strand.SubprocessExec(context.Background(), []string{"true"}, func() *childRecorder { return nil }, nil)
	require.Error(t, err)
	requireNoChildren(t)
}

// SU-16: if the system, or somebody else, has waited for the child, its status
// is unknown: 255 and a warning. SIGCHLD is ignored in the helper's process.
func TestSubprocessReapedElsewhere(t *testing.T) {
	out, err := helper(t, "reaped").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, 2, strings.Count(string(out), "waiting for a child failed"), "%s", out)
	require.Equal(t, 2, strings.Count(string(out), "255 true <nil>"), "%s", out)
}

func reapedHelper() error {
	signal.Ignore(syscall.SIGCHLD)
	for _, group := range []bool{false, true} {
		c := newChildRecorder()
		tr, _, err := strand.SubprocessExec(context.Background(), []string{"true"}, func() *childRecorder { return c }, &strand.SubprocessOptions{ProcessGroup: group})
		if err != nil {
			return err
		}
		<-tr.Done()
		code, exited := tr.ReturnCode()
		fmt.Println(code, exited, c.lost)
		if err := tr.Kill(); !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("Kill after the end: %w", err)
		}
	}
	return nil
}

// SU-11: when descriptors run out, wherever that is, the start fails, leaves
// nothing, and works again later.
func TestSubprocessEMFILE(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("descriptors are counted through /proc")
	}
	out, err := helper(t, "emfile").CombinedOutput()
	require.NoError(t, err, "%s", out)
	failed, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err, "%s", out)
	require.Greater(t, failed, 6, "each pipe takes two descriptors")
}

func emfileHelper() error {
	count := func() int {
		entries, _ := os.ReadDir("/proc/self/fd")
		return len(entries)
	}
	start := func() (*childRecorder, strand.SubprocessTransport, error) {
		c := newChildRecorder()
		tr, _, err := strand.SubprocessExec(context.Background(), []string{"/bin/sh", "-c", "exit 0"}, func() *childRecorder { return c }, nil)
		return c, tr, err
	}
	_, tr, err := start() // the runtime opens its own descriptors
	if err != nil {
		return err
	}
	<-tr.Done()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	for before, failed := count(), 0; ; failed++ {
		low := limit
		setTo(&low.Cur, before-1+failed)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
			return err
		}
		c, tr, err := start()
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
		switch {
		case err == nil:
			<-tr.Done()
			fmt.Println(failed)
			return nil
		case !errors.Is(err, syscall.EMFILE):
			return err
		case len(c.trace()) > 0:
			return fmt.Errorf("callbacks of a child that was not started: %v", c.trace())
		case count() != before:
			return fmt.Errorf("%d descriptors, %d before", count(), before)
		case failed > 100:
			return errors.New("never succeeds")
		}
	}
}

// setTo is an assignment to a field whose type depends on the system.
func setTo[T int64 | uint64](p *T, n int) { *p = T(n) }

// SU-17: a context that ends before the start starts nothing.
func TestSubprocessContextBefore(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("not now")
	cancel(cause)
	tr, _, err := strand.SubprocessExec(ctx, []string{"true"}, func() *childRecorder {
		t.Error("the factory is not asked")
		return newChildRecorder()
	}, nil)
	require.ErrorIs(t, err, cause)
	require.Nil(t, tr)
}

// SU-17: a context that ends during ConnectionMade kills the child, which is
// dead when the call returns.
func TestSubprocessContextDuring(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("too long")
	c := newChildRecorder()
	release := make(chan struct{})
	c.hook = func(call string, _ int) {
		if call == "ConnectionMade" {
			cancel(cause)
			<-release
		}
	}
	tr, _, err := strand.SubprocessExec(ctx, []string{"sleep", "1000"}, func() *childRecorder { return c }, nil)
	require.ErrorIs(t, err, cause)
	require.Nil(t, tr)
	requireNoChildren(t)
	close(release)
	require.ErrorIs(t, c.awaitEnd(t), cause)
	requireExit(t, c.child, -9)
	c.wantEvents(t, "the callbacks still come", "PipeConnectionLost 0 nil", "PipeConnectionLost 1 nil", "PipeConnectionLost 2 nil", "ProcessExited", "ConnectionLost too long")
}

// SU-17: a context that ends later kills the child, and its cause is the end's,
// unless Close came first.
func TestSubprocessContextAfter(t *testing.T) {
	cause := errors.New("enough")
	for name, tt := range map[string]struct {
		before func(tr strand.SubprocessTransport)
		want   error
	}{
		"running":     {func(strand.SubprocessTransport) {}, cause},
		"after Close": {func(tr strand.SubprocessTransport) { tr.Close() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			c := newChildRecorder()
			tr, _, err := strand.SubprocessExec(ctx, []string{"cat"}, func() *childRecorder { return c }, nil)
			require.NoError(t, err)
			tt.before(tr)
			cancel(cause)
			require.ErrorIs(t, c.awaitEnd(t), tt.want)
			requireExit(t, tr, -9)
		})
	}
}

// SU-18: extra information.
func TestSubprocessExtraInfo(t *testing.T) {
	c := newChildRecorder()
	tr := spawn(t, c, nil, "cat")
	p := tr.ExtraInfo(strand.ExtraSubprocess).(*os.Process)
	require.Equal(t, tr.Pid(), p.Pid)
	require.Nil(t, tr.ExtraInfo(strand.ExtraPipe))
	require.Nil(t, tr.ExtraInfo("nonsense"))
	for fd := range 3 {
		require.IsType(t, (*os.File)(nil), tr.PipeTransport(fd).ExtraInfo(strand.ExtraPipe))
		require.Nil(t, tr.PipeTransport(fd).ExtraInfo(strand.ExtraSubprocess))
	}
}

// SU-05: Shutdown goes one step after the other, and no further than it has to.
func TestSubprocessShutdown(t *testing.T) {
	over := errors.New("time is over")
	for name, tt := range map[string]struct {
		command string
		stdin   strand.Stdio
		want    int
		err     error
	}{
		"ends with its input":     {"cat; exit 5", strand.StdioPipe, 5, nil},
		"ends with SIGTERM":       {"trap 'exit 6' TERM; echo ready; while :; do sleep 0.01; done", strand.StdioNull, 6, nil},
		"has to be killed":        {"trap 'echo term' TERM; echo ready; while :; do sleep 0.01; done", strand.StdioNull, -9, over},
		"ends with a late signal": {"trap 'exit 6' TERM; echo ready; while :; do sleep 0.01; done", strand.StdioPipe, 6, nil},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			if tt.want == 6 && tt.stdin == strand.StdioPipe {
				// SIGTERM comes after half of the time that there is.
				ctx = endless{ctx}
			}
			defer cancel(nil)
			c := newChildRecorder()
			c.hook = func(call string, fd int) {
				if call == "PipeDataReceived" && strings.Contains(string(c.out[1]), "term") {
					cancel(over)
				}
			}
			tr := shell(t, c, &strand.SubprocessOptions{Stdin: tt.stdin}, tt.command)
			if strings.Contains(tt.command, "ready") {
				c.awaitOutput(t, 1, "ready")
			}
			require.ErrorIs(t, tr.Shutdown(ctx), tt.err)
			requireExit(t, tr, tt.want)
			require.NoError(t, c.awaitEnd(t))
			require.NoError(t, tr.Shutdown(context.Background()), "it has ended")
		})
	}
}

// endless is a context that says that it will end soon, and does not: however slow
// the machine is, nobody runs out of time.
type endless struct{ context.Context }

func (endless) Deadline() (time.Time, bool) { return time.Now().Add(10 * time.Millisecond), true }

// Shutdown in a callback cannot wait for the end, which waits for the callback:
// the context's end releases both.
func TestSubprocessShutdownInCallback(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := newChildRecorder()
	c.hook = func(call string, _ int) {
		if call == "PipeDataReceived" {
			cancel()
			require.ErrorIs(t, c.child.Shutdown(ctx), context.Canceled)
			requireExit(t, c.child, -9)
		}
	}
	shell(t, c, nil, "trap '' TERM; echo ready; exec sleep 1000")
	require.NoError(t, c.awaitEnd(t))
}

// fullChildLife is a child whose life has all callbacks, with a hook in them.
func fullChildLife(t testing.TB, hook func(c *childRecorder, call string)) (*childRecorder, error) {
	t.Helper()
	c := newChildRecorder()
	c.hook = func(call string, fd int) {
		switch call {
		case "ConnectionMade":
			mustWrite(t, c.child.PipeTransport(0), make([]byte, 1<<20))
			c.child.CallSoon(func() { hook(c, "CallSoon") })
		case "ResumeWriting":
			c.child.PipeTransport(0).WriteEOF()
		}
		hook(c, call)
	}
	opts := quietChild()
	opts.WriteBufferHigh = 1000
	_, _, err := strand.SubprocessShell(context.Background(), "echo hello; cat >/dev/null", func() *childRecorder { return c }, opts)
	if err == nil || c.child != nil {
		endChildWithTest(t, c.child)
	}
	return c, err
}

// childCallbacks are the callbacks in which a test does something bad.
var childCallbacks = []string{
	"ConnectionMade", "PipeDataReceived", "PipeConnectionLost", "ProcessExited",
	"PauseWriting", "ResumeWriting", "CallSoon", "ConnectionLost",
}

// EX-12: a panic or Goexit in any callback ends the child and its transport.
func TestSubprocessPanics(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic("on purpose") }, "Goexit": runtime.Goexit} {
		for _, in := range childCallbacks {
			t.Run(name+" in "+in, func(t *testing.T) {
				happened := false
				c, err := fullChildLife(t, func(_ *childRecorder, call string) {
					if call == in && !happened {
						happened = true
						leave()
					}
				})
				var panicked *strand.PanicError
				if in == "ConnectionMade" {
					require.ErrorAs(t, err, &panicked)
				} else {
					require.NoError(t, err)
				}
				lost := c.awaitEnd(t)
				require.True(t, happened)
				if in == "ConnectionLost" {
					require.NoError(t, lost, "its own panic is only logged")
				} else {
					require.ErrorAs(t, lost, &panicked)
				}
				requireNoChildren(t)
				calls := c.trace()
				for _, want := range []string{"PipeConnectionLost 0", "PipeConnectionLost 1", "PipeConnectionLost 2", "ProcessExited", "ConnectionLost"} {
					n := 0
					for _, call := range calls {
						if strings.HasPrefix(call, want) {
							n++
						}
					}
					require.Equal(t, 1, n, "%s in %v", want, calls)
				}
				require.True(t, strings.HasPrefix(calls[len(calls)-1], "ConnectionLost"))
			})
		}
	}
}

// SU-08: Close, and the ends of the pipes, work in every callback.
func TestSubprocessEndInCallbacks(t *testing.T) {
	for name, end := range map[string]func(c *childRecorder){
		"Close":       func(c *childRecorder) { c.child.Close() },
		"Kill":        func(c *childRecorder) { c.child.Kill() },
		"Abort all":   func(c *childRecorder) { eachChildPipe(c.child, strand.Transport.Abort) },
		"Close all":   func(c *childRecorder) { eachChildPipe(c.child, func(tr strand.Transport) { tr.Close() }) },
		"Abort stdin": func(c *childRecorder) { c.child.PipeTransport(0).Abort() },
	} {
		for _, in := range childCallbacks {
			t.Run(name+" in "+in, func(t *testing.T) {
				c, err := fullChildLife(t, func(c *childRecorder, call string) {
					if call == in {
						end(c)
						end(c)
					}
				})
				require.NoError(t, err)
				require.NoError(t, c.awaitEnd(t))
				requireNoChildren(t)
				calls := c.trace()
				require.Equal(t, "ConnectionLost nil", calls[len(calls)-1])
				require.Empty(t, c.broken)
			})
		}
	}
}

func eachChildPipe(tr strand.SubprocessTransport, do func(strand.Transport)) {
	for fd := range 3 {
		do(tr.PipeTransport(fd))
	}
}

// SU-01: SetProtocol takes effect with the next callback; nil panics.
func TestSubprocessSetProtocol(t *testing.T) {
	first, then := newChildRecorder(), newChildRecorder()
	tr := spawn(t, first, nil, "cat")
	then.calls = []string{"ConnectionMade"}
	then.child = tr
	tr.SetProtocol(then)
	require.Same(t, then, tr.Protocol())
	require.Panics(t, func() { tr.SetProtocol(nil) })
	require.Panics(t, func() { tr.SetProtocol((*childRecorder)(nil)) })
	mustWrite(t, tr.PipeTransport(0), []byte("hello"))
	tr.PipeTransport(0).WriteEOF()
	require.NoError(t, then.awaitEnd(t))
	require.Equal(t, "hello", then.output(1))
	first.wantCalls(t, "only the beginning", "ConnectionMade")
	then.wantEvents(t, "the rest", slices.Clone(allLost)...)
	require.Same(t, then, tr.Protocol())
}

// SU-06: a pipe's own protocol may be replaced, which does not keep the end
// from coming.
func TestSubprocessPipeSetProtocol(t *testing.T) {
	c, out := newChildRecorder(), newRecorder()
	tr := spawn(t, c, nil, "cat")
	out.calls = []string{"ConnectionMade"}
	out.t = tr.PipeTransport(1)
	inTurn(t, tr, func() { tr.PipeTransport(1).SetProtocol(out) })
	mustWrite(t, tr.PipeTransport(0), []byte("hello"))
	out.awaitData(t, 5)
	tr.PipeTransport(0).WriteEOF()
	require.NoError(t, c.awaitEnd(t))
	out.wantCalls(t, "a pipe's life", "ConnectionMade", "DataReceived 5", "EOFReceived", "ConnectionLost nil")
	c.wantEvents(t, "without that pipe", "PipeConnectionLost 0 nil", "PipeConnectionLost 2 nil", "ProcessExited", "ConnectionLost nil")
}

// SU-06: the protocol of the standard input hears of the water marks, and the
// child's does not.
func TestSubprocessInputSetProtocol(t *testing.T) {
	c, in := newChildRecorder(), newRecorder()
	tr := spawn(t, c, nil, "cat")
	stdin := tr.PipeTransport(0)
	in.calls = []string{"ConnectionMade"}
	in.t = stdin
	inTurn(t, tr, func() {
		tr.PipeTransport(1).PauseReading()
		stdin.SetProtocol(in)
	})
	fill(t, stdin)
	mustWrite(t, stdin, make([]byte, 256<<10))
	in.awaitCall(t, "PauseWriting")
	tr.PipeTransport(1).ResumeReading()
	in.awaitCall(t, "ResumeWriting")
	stdin.WriteEOF()
	require.NoError(t, c.awaitEnd(t))
	in.wantCalls(t, "the life of standard input", "ConnectionMade", "PauseWriting", "ResumeWriting", "ConnectionLost nil")
	for _, call := range c.trace() {
		require.NotContains(t, call, "Writing")
	}
}

// SU-02: CallSoon and CallLater of the child and of its pipes are in turn with
// the callbacks.
func TestSubprocessCallSoon(t *testing.T) {
	c := newChildRecorder()
	tr := spawn(t, c, nil, "cat")
	ran := make(chan string, 3)
	require.True(t, tr.CallSoon(func() { ran <- "child" }))
	require.True(t, tr.PipeTransport(1).CallSoon(func() { ran <- "pipe" }))
	tr.CallLater(0, func() { ran <- "timer" })
	got := []string{await(t, "a func", ran), await(t, "a func", ran), await(t, "a func", ran)}
	slices.Sort(got)
	require.Equal(t, []string{"child", "pipe", "timer"}, got)
	tr.CallLater(time.Hour, func() { ran <- "never" })
	tr.Close()
	require.NoError(t, c.awaitEnd(t))
	require.Empty(t, ran)
}

// SU-01, SU-05: another program than a shell, that talks on all three streams.
func TestSubprocessPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	c := newChildRecorder()
	tr := spawn(t, c, nil, python, "-c", `
import sys
for line in sys.stdin:
    sys.stdout.write(line.upper()); sys.stdout.flush()
    sys.stderr.write(str(len(line)) + "\n")
sys.exit(42)`)
	for i := range 100 {
		mustWrite(t, tr.PipeTransport(0), fmt.Appendf(nil, "line %d\n", i))
		c.awaitOutput(t, 1, fmt.Sprintf("LINE %d\n", i))
	}
	tr.PipeTransport(0).WriteEOF()
	require.NoError(t, c.awaitEnd(t))
	requireExit(t, tr, 42)
	require.Equal(t, 100, strings.Count(c.output(2), "\n"))
}
