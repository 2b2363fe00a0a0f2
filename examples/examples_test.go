// Package examples tests the programs in the directories below it, which teach
// the library, one thing each.
package examples

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	_ "github.com/gostrand/strand" // a change of it is to run these tests again
)

// patience bounds what a broken program may take.
const patience = time.Minute

// bin is the directory of the programs, which TestMain builds.
var bin string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	if bin, err = os.MkdirTemp("", "examples"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	if out, err := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "./...").CombinedOutput(); err != nil {
		return 0, errors.Join(err, errors.New(string(out)))
	}
	return m.Run(), nil
}

// program returns a command that is killed when the test takes too long.
func program(t *testing.T, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return exec.CommandContext(ctx, filepath.Join(bin, name), args...)
}

// output runs a program that has to succeed, and returns what it prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := program(t, name, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// start starts a server, and returns the address that it listens on and a func
// that interrupts it and waits for its end.
func start(t *testing.T, name string, args ...string) (addr string, stop func()) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no program can be interrupted on Windows")
	}
	cmd := program(t, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		cmd.Wait()
		require.NoError(t, err, "%s", stderr.String())
	}
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)
	return addr, func() {
		t.Helper()
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		require.NoError(t, cmd.Wait(), "%s", stderr.String())
	}
}

// roundTrip sends a message to an echo server and wants it back.
func roundTrip(t *testing.T, network, addr string) {
	t.Helper()
	c, err := net.Dial(network, addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(c, "ping")
	require.NoError(t, err)
	answer := make([]byte, len("ping"))
	_, err = io.ReadFull(c, answer)
	require.NoError(t, err)
	require.Equal(t, "ping", string(answer))
}

// That the sources are read here also lets the go command see that a program
// has changed since the tests were last run.
func TestEveryProgramIsDescribed(t *testing.T) {
	sources, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	require.NotEmpty(t, sources)
	for _, file := range sources {
		name := filepath.Dir(file)
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(source), "// "+strings.ToUpper(name[:1])+name[1:]+" "), "the comment of %s", file)
		require.Contains(t, output(t, name, "-h"), "usage: "+name)
	}
}

func TestEchoServerAndClient(t *testing.T) {
	addr, stop := start(t, "tcp-echo-server", "-addr", "127.0.0.1:0")
	require.Equal(t, "sent: \"Hello World!\"\nreceived: \"Hello World!\"\n", output(t, "tcp-echo-client", "-addr", addr))
	require.Equal(t, "sent: \"\"\nreceived: \"\"\n", output(t, "tcp-echo-client", "-addr", addr, "-message", ""))
	stop()

	out, err := program(t, "tcp-echo-client", "-addr", addr).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "nobody listens any more")
	require.Equal(t, 1, exit.ExitCode())
	require.Contains(t, string(out), addr)
}

func TestEchoServerAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	out, err := program(t, "tcp-echo-server", "-addr", ln.Addr().String()).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode())
	require.Contains(t, string(out), ln.Addr().String())
}

// A server that says something else than was sent is no echo server.
func TestEchoClientChecksTheEcho(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	served := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_, err = io.ReadAll(c)
			_, werr := io.WriteString(c, "something else")
			err = errors.Join(err, werr, c.Close())
		}
		served <- err
	}()
	out, err := program(t, "tcp-echo-client", "-addr", ln.Addr().String()).CombinedOutput()
	require.Error(t, err, "%s", out)
	require.Contains(t, string(out), "not what was sent")
	require.NoError(t, <-served)
}

func TestExistingSocket(t *testing.T) {
	require.Equal(t, "received: \"abc\"\nconnection lost: <nil>\n", output(t, "existing-socket"))
}

func TestEchoBenchServer(t *testing.T) {
	dir, err := os.MkdirTemp("", "bench") // t.TempDir's paths may be too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	for network, addr := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(dir, "s")} {
		t.Run(network, func(t *testing.T) {
			addr, stop := start(t, "echo-bench-server", "-net", network, "-addr", addr)
			roundTrip(t, network, addr)
			roundTrip(t, network, addr)
			stop()
		})
	}
}

// The callbacks of one connection come in order; how those of the two ends mix
// is left to the system.
func TestTour(t *testing.T) {
	parts := splitParts(output(t, "tour"))
	require.Len(t, parts, 4)
	for _, network := range []string{"tcp", "unix"} {
		part := parts["echo over "+network]
		require.Equal(t, `ConnectionMade; Write "hello"; DataReceived "hello"; WriteEOF; EOFReceived; ConnectionLost <nil>`, callsOf(part, "client"))
		require.Equal(t, `ConnectionMade; DataReceived "hello"; Write "hello"; EOFReceived; ConnectionLost <nil>`, callsOf(part, "server"))
	}

	part := parts["backpressure: the client does not read, so the server has to pause"]
	require.Regexp(t, `^ConnectionMade; wrote \d+ KiB until Writable\(\) was false; PauseWriting; ResumeWriting; Close; ConnectionLost <nil>$`, callsOf(part, "server"))
	require.Regexp(t, `^ConnectionMade; PauseReading; ResumeReading; \(DataReceived\) \d+ KiB in all; EOFReceived; ConnectionLost <nil>$`, callsOf(part, "client"))
	sizes := regexp.MustCompile(`\d+ KiB`).FindAllString(part, -1)
	require.Len(t, sizes, 2)
	require.Equal(t, sizes[0], sizes[1], "all that was sent is received")

	part = parts["graceful shutdown: the server's protocol is asked to finish"]
	require.Equal(t, `ConnectionMade; DataReceived "hello"; Write "hello"; ShutdownRequested; Write "goodbye"; ConnectionLost <nil>`, callsOf(part, "server"))
	require.Equal(t, `ConnectionMade; Write "hello"; DataReceived "hello"; DataReceived "goodbye"; EOFReceived; ConnectionLost <nil>`, callsOf(part, "client"))
	require.True(t, strings.HasSuffix(part, "  Shutdown has returned; connections left: 0\n"), part)
}

// splitParts returns the tour's parts by their headings, the lines that are not
// indented.
func splitParts(out string) map[string]string {
	parts := map[string]string{}
	heading := ""
	for line := range strings.Lines(out) {
		if line[0] != ' ' {
			heading = strings.TrimSpace(line)
		} else {
			parts[heading] += line
		}
	}
	return parts
}

// callsOf returns what the lines of one end of a connection say.
func callsOf(part, name string) string {
	var calls []string
	for line := range strings.Lines(part) {
		if call, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			calls = append(calls, strings.TrimSpace(call))
		}
	}
	return strings.Join(calls, "; ")
}
