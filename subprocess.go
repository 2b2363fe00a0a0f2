package strand

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// defaultTermDelay is how long Shutdown gives a child whose input was closed,
// and then again after SIGTERM if its context has no end.
const defaultTermDelay = 5 * time.Second

// unknownCode is asyncio's return code of a child that somebody else has
// waited for (SU-16).
const unknownCode = 255

// Stdio says what one of a child's standard streams is connected to: a choice
// below or StdioFile. The zero value is a pipe to this process.
type Stdio struct {
	mode stdioMode
	file *os.File
}

type stdioMode uint8

const (
	stdioPipe stdioMode = iota
	stdioInherit
	stdioNull
	stdioFile
	stdioStdout
)

// The choices of SubprocessOptions. asyncio: subprocess.PIPE, None, DEVNULL,
// STDOUT.
var (
	// StdioPipe is a pipe that PipeTransport returns. It is the zero value.
	StdioPipe = Stdio{}
	// StdioInherit is this process's own stream.
	StdioInherit = Stdio{mode: stdioInherit}
	// StdioNull is the null device.
	StdioNull = Stdio{mode: stdioNull}
	// StdioStdout, for Stderr only, is wherever standard output goes.
	StdioStdout = Stdio{mode: stdioStdout}
)

// StdioFile is an open file, which stays the caller's. asyncio: a file.
func StdioFile(f *os.File) Stdio { return Stdio{mode: stdioFile, file: f} }

// SubprocessOptions are the settings of SubprocessExec and SubprocessShell.
type SubprocessOptions struct {
	// TransportOptions are those of each pipe. IdleTimeout is refused: that a
	// pipe is silent says nothing about a child; end the context instead.
	TransportOptions

	// Stdin, Stdout and Stderr are the child's standard streams, pipes by
	// default. asyncio: stdin, stdout, stderr.
	Stdin, Stdout, Stderr Stdio

	// Dir, Env, ExtraFiles and SysProcAttr are those of exec.Cmd. asyncio: cwd,
	// env, pass_fds, and start_new_session and its like.
	Dir         string
	Env         []string
	ExtraFiles  []*os.File
	SysProcAttr *syscall.SysProcAttr

	// ProcessGroup makes the child the leader of a process group, to whose
	// every member Kill, Terminate, SendSignal, Close and the end of the
	// context then send: they reach grandchildren. After the end of the child
	// itself nobody is sent anything, for the group's number may be another's.
	// Where the system has no such thing it is an error matching
	// errors.ErrUnsupported. asyncio: process_group.
	ProcessGroup bool
}

// SubprocessExec starts the program argv[0], found as exec.Command does, with
// the arguments argv[1:], and makes it and its pipes a transport.
//
// It blocks until ConnectionMade has returned. A program that cannot be
// started is an error that matches fs.ErrNotExist, fs.ErrPermission or what
// the system says, and no callback is called. If ConnectionMade panics, the
// *PanicError is returned. factory runs on the calling goroutine, before the
// child is started; callbacks may already be running when SubprocessExec
// returns.
//
// If ctx ends before the start, nothing is started; if it ends later, also after
// SubprocessExec has returned, the child is killed, its pipes are closed, and
// ConnectionLost gets the context's cause. Somebody else's waiting for the
// child, or an ignored SIGCHLD, makes the return code 255. opts may be nil.
// asyncio: loop.subprocess_exec.
func SubprocessExec[P SubprocessProtocol](ctx context.Context, argv []string, factory func() P, opts *SubprocessOptions) (SubprocessTransport, P, error) {
	var none P
	if len(argv) == 0 || argv[0] == "" {
		return nil, none, errors.New("strand: SubprocessExec needs a program")
	}
	if factory == nil {
		return nil, none, errNilFactory
	}
	var o SubprocessOptions
	if opts != nil {
		o = *opts
	}
	cfg, err := o.resolve()
	if err != nil {
		return nil, none, err
	}
	if o.IdleTimeout > 0 {
		return nil, none, badOption("a subprocess has no IdleTimeout")
	}
	if err := context.Cause(ctx); err != nil {
		return nil, none, err
	}
	p, err := produce(factory)
	if err != nil {
		return nil, none, err
	}
	t, err := startSubprocess(ctx, argv, p, cfg, &o)
	if err != nil {
		return nil, none, err
	}
	return t, p, nil
}

// SubprocessShell is SubprocessExec of the system's shell with a command line:
// /bin/sh -c, or on Windows cmd /C. Never put words of strangers into command.
// asyncio: loop.subprocess_shell.
func SubprocessShell[P SubprocessProtocol](ctx context.Context, command string, factory func() P, opts *SubprocessOptions) (SubprocessTransport, P, error) {
	argv := []string{"/bin/sh", "-c", command}
	if runtime.GOOS == "windows" {
		argv = []string{"cmd", "/C", command}
	}
	return SubprocessExec(ctx, argv, factory, opts)
}

// subprocess is a child process: up to three pipe streams that share its
// dispatcher, and a goroutine that waits for the exit. It is over when the
// process has exited and every pipe is lost.
type subprocess struct {
	cfg   *config
	cmd   *exec.Cmd
	group bool
	pipes [3]*stream    // nil where there is no pipe; fixed before the goroutines start
	stop  func() bool   // ends the watch over the creating context
	dead  chan struct{} // closed when the child was waited for

	d dispatcher

	mu       sync.Mutex
	proto    SubprocessProtocol // mu
	life     lifecycle          // mu; ended is Close or another reason to kill, or all parts gone
	parts    int                // mu; pipes not lost yet, and one for the process
	nameless bool               // mu; the child's number may be another's from now on
	exited   bool               // mu; the child was waited for
	code     int                // mu; its return code
	ending   ending             // mu
}

func startSubprocess(ctx context.Context, argv []string, p SubprocessProtocol, cfg *config, o *SubprocessOptions) (*subprocess, error) {
	sp := &subprocess{cfg: cfg, proto: p, group: o.ProcessGroup, parts: 1, dead: make(chan struct{})}
	sp.d.owner, sp.d.cfg = sp, cfg
	sp.cmd = exec.Command(argv[0], argv[1:]...)
	sp.cmd.Dir, sp.cmd.Env, sp.cmd.ExtraFiles = o.Dir, o.Env, o.ExtraFiles
	var err error
	if sp.cmd.SysProcAttr, err = sysProcAttr(o.SysProcAttr, o.ProcessGroup); err != nil {
		return nil, err
	}
	ours, theirs, err := sp.connect(o)
	defer closeAll(theirs)
	if err == nil {
		err = sp.cmd.Start()
	}
	if err != nil {
		closeAll(ours)
		return nil, startError(err)
	}
	made := sp.begin(ctx, ours)
	select {
	case err = <-made:
		return sp, err
	case <-ctx.Done():
		sp.end(context.Cause(ctx))
		sp.awaitDeath() // SU-17
		return nil, context.Cause(ctx)
	}
}

// startError makes a program that is not in the PATH one that does not exist.
func startError(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return err
}

// connect makes the pipes. ours are this process's ends, by the child's
// descriptor, theirs what the child gets and this process closes after the
// start.
func (sp *subprocess) connect(o *SubprocessOptions) (ours, theirs []*os.File, err error) {
	ours = make([]*os.File, 3)
	child := make([]*os.File, 3)
	for fd, choice := range []Stdio{o.Stdin, o.Stdout, o.Stderr} {
		switch choice.mode {
		case stdioInherit:
			child[fd] = []*os.File{os.Stdin, os.Stdout, os.Stderr}[fd]
		case stdioFile:
			if _, err := choice.file.Stat(); err != nil { // nil, or closed
				return ours, theirs, badOption("file for descriptor %d: %w", fd, err)
			}
			child[fd] = choice.file
		case stdioStdout:
			if fd != 2 {
				return ours, theirs, badOption("only Stderr can be StdioStdout")
			}
			child[fd] = child[1]
		case stdioPipe:
			r, w, err := os.Pipe()
			if err != nil {
				return ours, theirs, err
			}
			if fd == 0 {
				child[fd], ours[fd] = r, w
			} else {
				child[fd], ours[fd] = w, r
			}
			theirs = append(theirs, child[fd])
		}
	}
	// A nil *os.File in an interface would not be the null device.
	if child[0] != nil {
		sp.cmd.Stdin = child[0]
	}
	if child[1] != nil {
		sp.cmd.Stdout = child[1]
	}
	if child[2] != nil {
		sp.cmd.Stderr = child[2]
	}
	return ours, theirs, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// begin starts the goroutines. ConnectionMade has the first turn: the others
// come after it.
func (sp *subprocess) begin(ctx context.Context, ours []*os.File) (made <-chan error) {
	for fd, f := range ours {
		if f == nil {
			continue
		}
		r, w := f, (*os.File)(nil)
		if fd == 0 {
			r, w = nil, f
		}
		s := newStream(newPipeConn(r, w), sp.cfg)
		s.child, s.d = sp, &sp.d
		s.life.advance(open) // there is no ConnectionMade to come before
		s.life.made = true
		s.proto.Store(bind(&childPipe{sp: sp, fd: fd}))
		sp.pipes[fd] = s
		sp.parts++
	}
	sp.stop = context.AfterFunc(ctx, func() { sp.end(context.Cause(ctx)) })
	result := make(chan error, 1)
	sp.d.enter()
	go sp.make(result)
	go sp.wait()
	return result
}

// make is the goroutine that runs ConnectionMade. It begins with the turn.
func (sp *subprocess) make(made chan<- error) {
	defer sp.d.leaveAnyhow()
	defer sp.startPipes(made)
	sp.d.run(func() { sp.Protocol().ConnectionMade(sp) })
}

// startPipes is deferred behind ConnectionMade, whatever that does.
func (sp *subprocess) startPipes(made chan<- error) {
	sp.mu.Lock()
	sp.life.advance(open)
	err := sp.life.cause
	sp.mu.Unlock()
	for _, s := range sp.pipes {
		if s != nil {
			go s.run()
		}
	}
	made <- err
}

// wait is the goroutine that waits for the exit, and then for its turn to tell.
func (sp *subprocess) wait() {
	sp.reap()
	sp.d.enter()
	defer sp.d.leaveAnyhow()
	defer sp.partGone()
	sp.d.run(func() { sp.Protocol().ProcessExited() })
}

// reap waits for the child and sets the return code. No group is signalled by
// the child's number once that may be another's.
func (sp *subprocess) reap() {
	if sp.group && blockUntilExit(sp.Pid()) {
		sp.mu.Lock()
		sp.nameless = true
		sp.mu.Unlock()
	}
	state, err := sp.cmd.Process.Wait()
	if err != nil {
		sp.cfg.log.Warn("strand: waiting for a child failed", "error", err, "transport", sp)
	}
	sp.mu.Lock()
	sp.nameless = true
	sp.exited = true
	sp.code = returnCode(state)
	sp.mu.Unlock()
	close(sp.dead)
}

// awaitDeath waits for the end of a child that was killed. One that may not be
// killed is not waited for.
func (sp *subprocess) awaitDeath() {
	if err := sp.Kill(); err == nil || errors.Is(err, os.ErrProcessDone) {
		<-sp.dead
	}
}

// partGone counts the end of a pipe or of the process. The last one makes the
// end of the transport. The caller has the turn.
func (sp *subprocess) partGone() {
	sp.mu.Lock()
	sp.parts--
	last := sp.parts == 0
	if last && sp.life.end(nil) {
		sp.ending.decided(nil)
	}
	sp.mu.Unlock()
	if last {
		sp.stop()
		defer sp.gone()
		defer sp.lose()
		sp.d.seal()
	}
}

func (sp *subprocess) lose() {
	sp.mu.Lock()
	sp.life.advance(lost)
	cause := sp.life.cause
	sp.mu.Unlock()
	sp.d.run(func() { sp.Protocol().ConnectionLost(cause) })
}

func (sp *subprocess) gone() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.life.advance(gone)
	sp.ending.over()
}

// end kills the child and closes the pipes because of cause, nil for Close. The
// first cause wins.
func (sp *subprocess) end(cause error) {
	sp.mu.Lock()
	decided := sp.life.end(cause)
	if decided {
		sp.ending.decided(cause)
	}
	running := !sp.exited
	sp.mu.Unlock()
	if !decided {
		return
	}
	if running && sp.cfg.debug {
		sp.cfg.log.Warn("strand: killing a running child", "error", cause, "transport", sp)
	}
	if err := sp.killAndAbort(); err != nil && !errors.Is(err, os.ErrProcessDone) && sp.cfg.debug {
		sp.cfg.log.Debug("strand: killing a child failed", "error", err, "transport", sp)
	}
}

// killAndAbort kills the child before it can notice that its pipes are closed,
// and ends the pipes before they can notice that the child is gone.
func (sp *subprocess) killAndAbort() error {
	for _, s := range sp.pipes {
		if s != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
		}
	}
	err := sp.Kill()
	for _, s := range sp.pipes {
		if s != nil {
			s.abortLocked()
		}
	}
	return err
}

// callbackOwner

func (sp *subprocess) runUrgent() {
	if s := sp.pipes[0]; s != nil {
		s.runUrgent() // only standard input has output of ours
	}
}

func (sp *subprocess) callbackFailed(err *PanicError) {
	sp.cfg.log.Error("strand: callback panicked", "error", err, "stack", string(err.Stack), "transport", sp)
	sp.end(err)
}

// LogValue is what a log record shows of the transport.
func (sp *subprocess) LogValue() slog.Value {
	return slog.GroupValue(slog.String("program", sp.cmd.Path), slog.Int("pid", sp.Pid()))
}

// childPipe is the protocol of a child's pipe: it passes everything on.
type childPipe struct {
	NopProtocol
	sp *subprocess
	fd int
}

func (c *childPipe) DataReceived(data []byte) { c.sp.Protocol().PipeDataReceived(c.fd, data) }
func (c *childPipe) PauseWriting()            { c.sp.Protocol().PauseWriting() }
func (c *childPipe) ResumeWriting()           { c.sp.Protocol().ResumeWriting() }

func (c *childPipe) ConnectionLost(err error) { c.sp.Protocol().PipeConnectionLost(c.fd, err) }

// SubprocessTransport

func (sp *subprocess) Close() error {
	sp.end(nil)
	return nil
}

func (sp *subprocess) IsClosing() bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.life.isClosing()
}

func (sp *subprocess) ExtraInfo(name string) any {
	if name == ExtraSubprocess {
		return sp.cmd.Process
	}
	return nil
}

func (sp *subprocess) Context() context.Context {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.ending.of(&sp.life).ctx
}

func (sp *subprocess) Done() <-chan struct{} {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.ending.of(&sp.life).done
}

func (sp *subprocess) CallSoon(fn func()) bool { return sp.d.post(fn) }

func (sp *subprocess) CallLater(d time.Duration, fn func()) *Timer { return sp.d.callLater(d, fn) }

func (sp *subprocess) Pid() int { return sp.cmd.Process.Pid }

func (sp *subprocess) PipeTransport(fd int) Transport {
	if fd < 0 || fd >= len(sp.pipes) || sp.pipes[fd] == nil {
		return nil
	}
	return sp.pipes[fd]
}

func (sp *subprocess) ReturnCode() (code int, exited bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.code, sp.exited
}

func (sp *subprocess) Kill() error { return sp.SendSignal(os.Kill) }

func (sp *subprocess) Terminate() error { return sp.SendSignal(syscall.SIGTERM) }

// SendSignal is os.Process's, which never signals a process that was waited
// for; a whole group is signalled under the same rule.
func (sp *subprocess) SendSignal(sig os.Signal) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	switch {
	case sp.nameless:
		return os.ErrProcessDone
	case sp.group:
		return signalGroup(sp.cmd.Process, sig)
	}
	return sp.cmd.Process.Signal(sig)
}

func (sp *subprocess) Shutdown(ctx context.Context) error {
	if stdin := sp.pipes[0]; stdin != nil {
		stdin.Close()
		soft, cancel := context.WithTimeout(ctx, termDelay(ctx))
		defer cancel()
		if sp.awaitDone(soft) {
			return nil
		}
	}
	if ctx.Err() == nil {
		sp.Terminate() // where that cannot be done, killing is what is left
	}
	hard := ctx
	if ctx.Done() == nil {
		var cancel context.CancelFunc
		hard, cancel = context.WithTimeoutCause(ctx, defaultTermDelay, &TimeoutError{Op: "shutdown", After: defaultTermDelay})
		defer cancel()
	}
	if sp.awaitDone(hard) {
		return nil
	}
	sp.end(nil)
	sp.awaitDeath()
	return context.Cause(hard)
}

// termDelay is how long Shutdown waits before it sends SIGTERM: at most half of
// the time it has.
func termDelay(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(defaultTermDelay, time.Until(deadline)/2)
	}
	return defaultTermDelay
}

// awaitDone waits for the end, or for ctx, and prefers the end.
func (sp *subprocess) awaitDone(ctx context.Context) bool {
	select {
	case <-sp.Done():
	case <-ctx.Done():
		select {
		case <-sp.Done():
		default:
			return false
		}
	}
	return true
}

func (sp *subprocess) SetProtocol(p SubprocessProtocol) {
	if isNil(p) {
		panic("strand: SetProtocol(nil)")
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.proto = p
}

func (sp *subprocess) Protocol() SubprocessProtocol {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.proto
}

var (
	_ SubprocessTransport = (*subprocess)(nil)
	_ callbackOwner       = (*subprocess)(nil)
)
