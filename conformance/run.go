package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gostrand/strand"
)

// smallBuffer is what "buffers": "small" makes of the kernel's buffers.
const smallBuffer = 32768

// DefaultTimeout is how long a wait of a scenario may take.
const DefaultTimeout = 30 * time.Second

// A Run is one run of one scenario: what peers, callbacks and the application
// share.
type Run struct {
	scenario *Scenario
	timeout  time.Duration
	cut      string
	trace    *Trace
	main     *section
	log      *section
	board    *board
	dir      string

	listener      net.Listener // what peers accept from
	server        *strand.Server
	serverAddress net.Addr
	selfAddress   net.Addr
	peers         []*peer
	playing       sync.WaitGroup // the peers
	serving       *serving

	mu          sync.Mutex // guards the rest
	connections []*connection
	names       map[string]named
	closers     []func() error
}

// named is an address that traces write by name.
type named struct {
	addr net.Addr
	name string
}

// Play runs a scenario against strand and returns its trace. cut says how what
// peers send is cut: "", "one" or "random:SEED". A wait longer than timeout is
// an error, with the trace up to there.
func Play(s *Scenario, cut string, timeout time.Duration) (string, error) {
	dir, err := os.MkdirTemp("", "conf")
	if err != nil {
		return "", err
	}
	r := &Run{
		scenario: s, timeout: timeout, cut: cut, dir: dir,
		trace: newTrace(), board: newBoard(timeout), names: make(map[string]named),
	}
	r.main, r.log = r.trace.section("main"), r.trace.section("log")
	err = r.play()
	r.trace.freeze()
	return r.trace.String(), errors.Join(err, r.strike())
}

// The stage.

// connection makes the next connection; factories call it.
func (r *Run) connection() *connection {
	if r.scenario.Options.Factory == "raises" {
		panic(raised("factory"))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	name := fmt.Sprintf("c%d", len(r.connections))
	c := &connection{run: r, name: name, section: r.trace.section(name)}
	r.connections = append(r.connections, c)
	return c
}

func (r *Run) connectionAt(index int) (*connection, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index >= len(r.connections) {
		return nil, fmt.Errorf("there is no connection c%d yet: wait for it", index)
	}
	return r.connections[index], nil
}

// options are the transport options of every entry point.
func (r *Run) options() strand.TransportOptions {
	return strand.TransportOptions{Logger: slog.New(&logHandler{run: r})}
}

// preparePeer makes a peer's receive buffer small, before the socket connects
// or listens.
func (r *Run) preparePeer(_, _ string, raw syscall.RawConn) error {
	size := r.scenario.Options.RcvBuf
	if size == 0 && r.scenario.Options.Buffers == "small" {
		size = smallBuffer
	}
	if size == 0 {
		return nil
	}
	return control(raw, syscall.SO_RCVBUF, size)
}

// prepareTransport makes a transport's send buffer small.
func (r *Run) prepareTransport(t strand.BaseTransport) {
	raw, ok := t.ExtraInfo(strand.ExtraSocket).(syscall.RawConn)
	if !ok || r.scenario.Options.Buffers != "small" {
		return
	}
	if err := control(raw, syscall.SO_SNDBUF, smallBuffer); err != nil {
		r.board.fail(err)
	}
}

func control(raw syscall.RawConn, option, value int) error {
	var err error
	failed := raw.Control(func(fd uintptr) { err = setsockopt(fd, syscall.SOL_SOCKET, option, value) })
	return errors.Join(failed, err)
}

// closeLater closes c when the stage is struck.
func (r *Run) closeLater(c interface{ Close() error }) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closers = append(r.closers, c.Close)
}

func (r *Run) nameAddress(addr net.Addr, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[addr.String()] = named{addr, name}
}

// addressName writes an address without what differs from run to run.
func (r *Run) addressName(addr net.Addr) string {
	if addr == nil {
		return "null"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	name := "*"
	if n, ok := r.names[addr.String()]; ok {
		name = n.name
	}
	host, _, err := net.SplitHostPort(addr.String())
	switch {
	case addr.String() == "" || addr.String() == "@":
		return "unnamed"
	case err != nil: // a path
		return name
	}
	return host + ":" + name
}

func (r *Run) addressOf(name string) net.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.names {
		if n.name == name {
			return n.addr
		}
	}
	return nil
}

// errorName writes an error, loosely where the kernel may report either of two.
func (r *Run) errorName(err error) string {
	name := errorName(err)
	if r.scenario.LooseErrors && (name == "ECONNRESET" || name == "EPIPE") {
		return "peer gone"
	}
	return name
}

// The play.

func (r *Run) play() error {
	if err := starters[r.scenario.Kind](r); err != nil {
		return err
	}
	if err := r.application(); err != nil {
		return err
	}
	for _, p := range r.peers {
		if err := r.board.wait(p.name + ".end"); err != nil {
			return err
		}
	}
	return r.ends()
}

// startPeers lets all peers play.
func (r *Run) startPeers() {
	for _, p := range r.peers {
		r.playing.Go(p.play)
	}
}

// created shows how the creating call ended; it may have panicked because the
// factory did.
func (r *Run) created(create func() error) {
	defer r.board.post("created", 1)
	err := func() (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = v.(error)
			}
		}()
		return create()
	}()
	switch {
	case err != nil:
		r.main.add("create %s", r.errorName(err))
	case r.board.count("c0.made") > 0:
		r.main.add("create ok, after made")
	default:
		r.main.add("create ok")
	}
}

func isAppStep(step string) bool {
	verb, _, _ := strings.Cut(step, " ")
	return slices.Contains([]string{"wait", "linger", "turn", "server", "mark"}, verb) || strings.HasPrefix(step, "@")
}

// application walks through the application's steps: actions between two
// waits are one turn.
func (r *Run) application() error {
	var turn []string
	index := 0
	for _, step := range append(slices.Clone(r.scenario.App), "turn") {
		if !isAppStep(step) {
			turn = append(turn, step)
			continue
		}
		if err := r.turn(index, turn); err != nil {
			return err
		}
		turn = nil
		var err error
		if n, ok := strings.CutPrefix(step, "@"); ok {
			index, err = strconv.Atoi(n)
		} else {
			err = r.appStep(step)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

func (r *Run) appStep(step string) error {
	words := strings.Fields(step)
	switch words[0] {
	case "wait":
		return r.board.wait(words[1])
	case "mark":
		r.board.post(words[1], 1)
	case "linger":
		return linger(words[1])
	case "server":
		return r.serverStep(r.main.add("%s", step), words[1:])
	}
	return nil
}

// turn runs actions in turn with the callbacks; after the last one they run
// here.
func (r *Run) turn(index int, list []string) error {
	if len(list) == 0 {
		return nil
	}
	c, err := r.connectionAt(index)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	body := func() {
		defer close(done)
		c.section.add("app")
		c.perform(list, c.section)
	}
	if !c.transport.CallSoon(body) {
		if err := r.waitClosed(c.transport.Done()); err != nil {
			return err
		}
		body()
	}
	return r.waitClosed(done)
}

var errStuck = errors.New("the wait for a callback or for Done took too long")

func (r *Run) waitClosed(c <-chan struct{}) error {
	timeout := time.NewTimer(r.timeout)
	defer timeout.Stop()
	select {
	case <-c:
		return nil
	case <-timeout.C:
		return errStuck
	}
}

// ends waits for connection_lost of every connection, unless the scenario
// leaves them open.
func (r *Run) ends() error {
	for _, c := range r.snapshot() {
		switch {
		case r.board.count(c.name+".made") == 0:
		case r.scenario.Leave != "open" || c.transport.IsClosing(): // then the end is only late
			if err := r.lost(c); err != nil {
				return err
			}
		case r.board.count(c.name+".lost") == 0:
			c.section.add("still open")
		}
	}
	return nil
}

// lost waits for the end of a connection, and for what strand does after
// ConnectionLost: if that panicked the log says so before Done.
func (r *Run) lost(c *connection) error {
	if err := r.board.wait(c.name + ".lost"); err != nil {
		return err
	}
	return r.waitClosed(c.transport.Done())
}

func (r *Run) snapshot() []*connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.connections)
}

// strike closes whatever the scenario left open and waits until all is gone,
// so that no run disturbs the next.
func (r *Run) strike() error {
	r.board.fail(errors.New("the scenario is over"))
	for _, c := range r.snapshot() {
		if t, ok := c.transport.(interface{ Abort() }); ok {
			t.Abort()
		} else if c.transport != nil {
			c.transport.Close()
		}
	}
	errs := []error{r.stopServer()}
	r.mu.Lock()
	closers := r.closers
	r.mu.Unlock()
	for _, closeIt := range closers {
		closeIt() // Most are closed already.
	}
	r.playing.Wait()
	for _, c := range r.snapshot() {
		if c.transport != nil {
			errs = append(errs, r.waitClosed(c.transport.Done()))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(r.dir))...)
}

// logHandler writes the errors that strand logs to the section log.
type logHandler struct{ run *Run }

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (h *logHandler) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h *logHandler) WithGroup(string) slog.Handler                { return h }

func (h *logHandler) Handle(_ context.Context, rec slog.Record) error {
	if h.run.scenario.Log == "hidden" {
		return nil
	}
	rec.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			h.run.log.add("report %s", h.run.errorName(err))
			return false
		}
		return true
	})
	return nil
}
