//go:build linux

// Package runner starts servers, loads them and ends them.
package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gostrand/strand/benchmarks/internal/loadgen"
	"github.com/gostrand/strand/benchmarks/internal/peers"
	"github.com/gostrand/strand/benchmarks/internal/proc"
	"github.com/gostrand/strand/benchmarks/internal/scenario"
)

// grace is what a load may take beyond its warm-up and window: opening
// connections, the last file.
const grace = 45 * time.Second

// A Runner loads one server at a time. Its methods, and those of its sessions, are
// for one goroutine, locked to its thread: children inherit that thread's
// processors, and the kernel ends them with it.
type Runner struct {
	Load     string        // path of the load generator
	Dir      string        // for sockets and files, removed by the caller
	Warmup   time.Duration // before each window
	Duration time.Duration // of a window
	FileSize int64

	// Where to run; the zero sets leave it to the scheduler.
	Pinned                 bool
	ServerCPUs, ClientCPUs proc.CPUSet

	Cert, Key string // PEM files
	File      string // of FileSize bytes, for scenario.File

	sessions int
}

// A Session is a server that waits for load.
type Session struct {
	r      *Runner
	sc     scenario.Scenario
	addr   string
	server *process
}

// Start starts a server and waits until it answers. It ends with ctx or Close.
func (r *Runner) Start(ctx context.Context, sc scenario.Scenario, server peers.Server) (*Session, error) {
	addr, err := r.address(sc.Kind)
	if err != nil {
		return nil, err
	}
	listen := peers.Listen{Kind: sc.Kind, Addr: addr, Cert: r.Cert, Key: r.Key, File: r.File}
	p, err := r.start(ctx, server.Command(listen), r.ServerCPUs)
	if err != nil {
		return nil, err
	}
	if err := p.await(ctx, sc.Kind.Net(), addr); err != nil {
		p.kill()
		return nil, err
	}
	return &Session{r, sc, addr, p}, nil
}

// Close ends the server.
func (s *Session) Close() { s.server.kill() }

// Load measures one window.
func (s *Session) Load(ctx context.Context) (loadgen.Result, error) {
	r := s.r
	ctx, cancel := context.WithTimeout(ctx, r.Warmup+r.Duration+s.sc.Load.Settle+grace)
	defer cancel()
	var result loadgen.Result
	client, err := r.start(ctx, append([]string{r.Load}, r.loadFlags(s.sc, s.addr, s.server.pid())...), r.ClientCPUs)
	if err != nil {
		return result, err
	}
	defer client.kill()
	if err := client.wait(ctx); err != nil {
		return result, errors.Join(client.fault("load", err), s.server.exitedSoon())
	}
	if err := json.Unmarshal(client.out.Bytes(), &result); err != nil {
		return result, fmt.Errorf("load printed %q: %w", client.out.String(), err)
	}
	return result, nil
}

func (r *Runner) loadFlags(sc scenario.Scenario, addr string, pid int) []string {
	c := sc.Load
	return []string{
		"-mode", string(c.Mode), "-net", sc.Kind.Net(), "-addr", addr,
		"-tls=" + strconv.FormatBool(sc.Kind == scenario.TLS),
		"-conns", strconv.Itoa(c.Conns), "-size", strconv.Itoa(c.Size), "-depth", strconv.Itoa(c.Depth),
		"-rate", strconv.FormatFloat(c.Rate, 'f', -1, 64), "-filesize", strconv.FormatInt(r.FileSize, 10),
		"-warmup", r.Warmup.String(), "-duration", r.Duration.String(), "-settle", c.Settle.String(),
		"-pid", strconv.Itoa(pid),
	}
}

// address finds a free one. Every session has its own, so that closed connections
// of the one before do not stand in its way.
func (r *Runner) address(kind scenario.Kind) (string, error) {
	r.sessions++
	if kind == scenario.Unix {
		return filepath.Join(r.Dir, strconv.Itoa(r.sessions)+".sock"), nil
	}
	return freePort(kind.Net())
}

// process is a child with what it printed.
type process struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
	done     chan struct{} // closed when the child has been waited for
	waitErr  error         // valid after done
}

func (r *Runner) start(ctx context.Context, argv []string, cpus proc.CPUSet) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), done: make(chan struct{})}
	// Go's preemption signals would interrupt the client's one thread a
	// hundred times a second. Servers run as their users run them.
	if argv[0] == r.Load {
		p.cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.startOn(p.cmd, cpus); err != nil {
		return nil, err
	}
	go p.reap()
	return p, nil
}

func (p *process) reap() {
	p.waitErr = p.cmd.Wait()
	close(p.done)
}

// startOn moves this thread for the moment of the fork.
func (r *Runner) startOn(cmd *exec.Cmd, cpus proc.CPUSet) error {
	if !r.Pinned {
		return cmd.Start()
	}
	own, err := proc.ThreadAffinity()
	if err != nil {
		return err
	}
	if err := proc.SetThreadAffinity(cpus); err != nil {
		return err
	}
	return errors.Join(cmd.Start(), proc.SetThreadAffinity(own))
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) wait(ctx context.Context) error {
	<-p.done // ends by the context too, which kills the child
	return errors.Join(ctx.Err(), p.waitErr)
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// exited is nil while the child runs.
func (p *process) exited() error {
	select {
	case <-p.done:
		return p.fault("the server ended", p.waitErr)
	default:
		return nil
	}
}

// lastWords is how long a server may take to end after its client saw it go.
const lastWords = time.Second

// exitedSoon is exited for a server that may be about to end: its connections do so
// before it, and what it printed is known after it.
func (p *process) exitedSoon() error {
	select {
	case <-p.done:
	case <-time.After(lastWords):
	}
	return p.exited()
}

// fault puts what a child printed into the error.
func (p *process) fault(what string, err error) error {
	return fmt.Errorf("%s: %w: %s", what, err, gist(p.err.String()))
}

// gist is the line that names the fault: Go says it first, Python last.
func gist(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if strings.HasPrefix(lines[0], "Traceback") {
		return lines[len(lines)-1]
	}
	return lines[0]
}

// WriteFile makes the file of scenario.File and waits until it is on disk, so
// that its writing does not disturb the first run.
func WriteFile(path string, size int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return errors.Join(loadgen.WriteFile(f, size), f.Sync())
}
