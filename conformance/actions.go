package conformance

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gostrand/strand"
)

// An action is one thing that a callback or the application does. target is
// the connection's transport, or that of one of a child's pipes. The error is
// written behind the action's line.
type action func(c *connection, target any, args []string) error

// silentActions leave none: they are the scenario's machinery.
var silentActions = []string{"mark", "hold", "return", "raise"}

// actionOf returns the action of a verb that leaves a line, or nil. It is a
// function because actions lead to blocks of actions.
func actionOf(verb string) action {
	return map[string]action{
		"write": doWrite, "writelines": doWriteLines, "write_eof": doWriteEOF,
		"limits": doLimits, "sendto": doSendTo, "sendfile": doSendfile,
		"pause_reading": doPauseReading, "resume_reading": doResumeReading,
		"close": doClose, "abort": doAbort, "set_protocol": doSetProtocol,
		"kill": doKill, "terminate": doTerminate, "signal": doSignal,
		"start_tls": doStartTLS, "soon": doSoon, "later": doLater,
	}[verb]
}

// checkActions rejects verbs and questions that do not exist before anything
// runs.
func (s *Scenario) checkActions() error {
	lists := slices.Collect(maps.Values(s.Blocks))
	for _, p := range s.Protocols {
		lists = append(lists, slices.Collect(maps.Values(p.On))...)
	}
	for _, list := range append(lists, slices.DeleteFunc(slices.Clone(s.App), isAppStep)) {
		for _, text := range list {
			if !knownAction(strings.Fields(text)) {
				return fmt.Errorf("%s: unknown action %q", s.Path, text)
			}
		}
	}
	return nil
}

func knownAction(words []string) bool {
	if len(words) == 0 {
		return false
	}
	if words[0] == "pipe" && len(words) > 2 {
		words = words[2:]
	}
	if words[0] == "ask" && len(words) == 2 {
		name, _, _ := strings.Cut(words[1], ":")
		return questions[name] != nil
	}
	return actionOf(words[0]) != nil || slices.Contains(silentActions, words[0])
}

// perform runs actions in order and returns what "return" says.
func (c *connection) perform(list []string, s *section) (answer bool) {
	for _, text := range list {
		words := strings.Fields(text)
		switch verb, args := words[0], words[1:]; verb {
		case "return":
			answer = args[0] == "true"
		case "mark":
			c.run.board.post(args[0], 1)
		case "hold":
			if err := c.run.board.wait(args[0]); err != nil {
				c.run.board.fail(err)
			}
		case "raise":
			panic(raised(args[0]))
		default:
			c.act(s.add("  %s", text), c.transport, verb, args)
		}
	}
	return answer
}

// act runs one action and writes its outcome behind its line.
func (c *connection) act(l *line, target any, verb string, args []string) {
	if verb == "pipe" {
		fd, err := strconv.Atoi(args[0])
		if err != nil {
			c.run.board.fail(err)
			return
		}
		target, verb, args = target.(strand.SubprocessTransport).PipeTransport(fd), args[1], args[2:]
	}
	if verb == "ask" {
		l.result(c.ask(target, args[0]))
		return
	}
	if err := actionOf(verb)(c, target, args); err != nil {
		l.result(c.run.errorName(err))
	}
}

// Writing.

func doWrite(c *connection, target any, args []string) error {
	data, err := c.source.take(args[0])
	if err != nil {
		return err
	}
	_, err = target.(strand.WriteTransport).Write(data)
	return err
}

func doWriteLines(c *connection, target any, args []string) error {
	lines := make([][]byte, len(args))
	for i, arg := range args {
		var err error
		if lines[i], err = c.source.take(arg); err != nil {
			return err
		}
	}
	_, err := target.(strand.WriteTransport).WriteLines(lines...)
	return err
}

func doWriteEOF(_ *connection, target any, _ []string) error {
	return target.(strand.WriteTransport).WriteEOF()
}

// errInvalid stands for limits that contradict each other.
var errInvalid = syscall.EINVAL

// doLimits sets water marks; "size+N" means N more than what is buffered.
func doLimits(_ *connection, target any, args []string) error {
	t := target.(interface {
		WriteBufferSize() int
		SetWriteBufferLimits(high, low int) error
	})
	marks := map[string]int{"high": -1, "low": -1}
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		value, relative := strings.CutPrefix(value, "size+")
		n, err := strconv.Atoi(value)
		if err != nil {
			return err
		}
		if relative {
			n += t.WriteBufferSize()
		}
		marks[name] = n
	}
	if err := t.SetWriteBufferLimits(marks["high"], marks["low"]); err != nil {
		return errInvalid
	}
	return nil
}

func doSendTo(c *connection, target any, args []string) error {
	data, err := c.source.take(args[0])
	if err != nil {
		return err
	}
	t := target.(strand.DatagramTransport)
	if len(args) == 1 {
		return t.SendTo(data, nil)
	}
	return t.SendTo(data, c.run.addressOf(args[1]))
}

// Reading, ending, switching.

func doPauseReading(_ *connection, target any, _ []string) error {
	target.(strand.ReadTransport).PauseReading()
	return nil
}

func doResumeReading(_ *connection, target any, _ []string) error {
	target.(strand.ReadTransport).ResumeReading()
	return nil
}

func doClose(_ *connection, target any, _ []string) error {
	return target.(strand.BaseTransport).Close()
}

func doAbort(_ *connection, target any, _ []string) error {
	target.(interface{ Abort() }).Abort()
	return nil
}

func doSetProtocol(c *connection, target any, args []string) error {
	number, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	switch t := target.(type) {
	case strand.Transport:
		t.SetProtocol(c.streamProtocol(number))
	case strand.DatagramTransport:
		t.SetProtocol(&datagramProtocol{c.reactions(number)})
	case strand.SubprocessTransport:
		t.SetProtocol(&subprocessProtocol{reactions: c.reactions(number)})
	}
	return nil
}

// Subprocesses.

func doKill(_ *connection, target any, _ []string) error {
	return target.(strand.SubprocessTransport).Kill()
}

func doTerminate(_ *connection, target any, _ []string) error {
	return target.(strand.SubprocessTransport).Terminate()
}

var signals = map[string]os.Signal{"SIGHUP": syscall.SIGHUP, "SIGINT": syscall.SIGINT, "SIGUSR1": sigUSR1}

func doSignal(_ *connection, target any, args []string) error {
	sig, ok := signals[args[0]]
	if !ok {
		return fmt.Errorf("unknown signal %s", args[0])
	}
	return target.(strand.SubprocessTransport).SendSignal(sig)
}

// doStartTLS begins the upgrade; its end is an event, in turn with the
// callbacks.
func doStartTLS(c *connection, target any, _ []string) error {
	opts, err := c.run.startTLSOptions()
	if err != nil {
		return err
	}
	t := target.(strand.Transport)
	return strand.StartTLS(t, opts, func(err error) {
		if err != nil {
			c.section.add("tls %s", c.run.errorName(err))
			c.post("tls_failed", 1)
			return
		}
		c.section.add("tls ok")
		t.Protocol().(interface{ self() *reactions }).self().fire("tls", c.section)
	})
}

// Order.

func doSoon(c *connection, target any, args []string) error {
	target.(strand.BaseTransport).CallSoon(func() { c.block(args[0]) })
	return nil
}

func doLater(c *connection, target any, args []string) error {
	ms, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	target.(strand.BaseTransport).CallLater(time.Duration(ms)*time.Millisecond, func() { c.block(args[1]) })
	return nil
}

func (c *connection) block(name string) {
	defer c.post("soon."+name, 1)
	c.section.add("soon %s", name)
	c.perform(c.run.scenario.Blocks[name], c.section)
}
