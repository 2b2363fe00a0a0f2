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
	"github.com/gostrand/strand/internal/testkit"
)

// patience bounds what a broken program may take.
const patience = 3 * time.Minute

// own is where servers listen whose ports nobody is to take when they have ended.
var own = testkit.OwnHost() + ":0"

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
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for _, file := range sources {
		name := filepath.Dir(file)
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(source), "// "+strings.ToUpper(name[:1])+name[1:]+" "), "the comment of %s", file)
		require.Contains(t, output(t, name, "-h"), "usage: "+name)
		require.Contains(t, string(readme), "(examples/"+name+"/main.go)")
	}
}

func TestEchoServerAndClient(t *testing.T) {
	addr, stop := start(t, "tcp-echo-server", "-addr", own)
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
	require.Len(t, parts, 5)
	for _, network := range []string{"tcp", "unix"} {
		part := parts["echo over "+network]
		require.Equal(t, `ConnectionMade; Write "hello"; DataReceived "hello"; WriteEOF; EOFReceived; ConnectionLost <nil>`, callsOf(part, "client"))
		require.Equal(t, `ConnectionMade; DataReceived "hello"; Write "hello"; EOFReceived; ConnectionLost <nil>`, callsOf(part, "server"))
	}

	part := parts["echo over udp"]
	require.Equal(t, `ConnectionMade; SendTo "hello"; DatagramReceived "hello"; SendTo ""; DatagramReceived ""; Close; ConnectionLost <nil>`, callsOf(part, "client"))
	require.Equal(t, `ConnectionMade; DatagramReceived "hello"; SendTo "hello"; DatagramReceived ""; SendTo ""; ConnectionLost <nil>`, callsOf(part, "server"))

	part = parts["backpressure: the client does not read, so the server has to pause"]
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

func TestSubprocessDate(t *testing.T) {
	skipWithoutShell(t)
	require.Regexp(t, `^Current date: .*\d\d:\d\d:\d\d.*\n$`, output(t, "subprocess-date"))
	require.Equal(t, "Current date: today\n", output(t, "subprocess-date", "sh", "-c", "echo; echo today"))

	for command, want := range map[string]string{
		"echo to stderr >&2; exit 3": "return code 3",
		"kill -KILL $$":              "return code -9",
	} {
		out, err := program(t, "subprocess-date", "sh", "-c", command).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), want)
		require.NotContains(t, string(out), "Current date")
	}
	out, err := program(t, "subprocess-date", "no-such-program-anywhere").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "not found")
}

func skipWithoutShell(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no shell here")
	}
}

// The filter's consumer reads nothing until the producer is stuck: what was
// produced then is bounded by what pipes and transports hold.
func TestStdioFilter(t *testing.T) {
	cmd := program(t, "stdio-filter")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	const size = 16 << 20
	produced := make(chan error, 1)
	go func() {
		_, err := stdin.Write(bytes.Repeat([]byte("abcdefg\n"), size/8))
		produced <- errors.Join(err, stdin.Close())
	}()
	half := make([]byte, size/2)
	_, err = io.ReadFull(stdout, half)
	require.NoError(t, err)
	select {
	case err := <-produced:
		t.Fatalf("all was taken while half of it was not read: %v", err)
	default:
	}
	rest, err := io.ReadAll(stdout)
	require.NoError(t, err)
	require.NoError(t, <-produced)
	require.NoError(t, cmd.Wait())
	require.True(t, bytes.Equal(append(half, rest...), bytes.Repeat([]byte("ABCDEFG\n"), size/8)))
}

func TestStdioFilterWithoutConsumer(t *testing.T) {
	cmd := program(t, "stdio-filter")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = stdin.Write([]byte("hello\n"))
	require.NoError(t, err)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HELLO\n", line)
	require.NoError(t, stdout.Close())
	require.NoError(t, cmd.Wait(), "it ends without waiting for more input")
}

func TestStdioFilterInterrupted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no program can be interrupted on Windows")
	}
	cmd := program(t, "stdio-filter")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.WriteString(stdin, "hello\n")
	require.NoError(t, err)
	_, err = bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Contains(t, stderr.String(), "interrupt")
}

func TestStdioFilterRefusesFiles(t *testing.T) {
	cmd := program(t, "stdio-filter")
	f, err := os.Open("examples_test.go")
	require.NoError(t, err)
	defer f.Close()
	cmd.Stdin = f
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "pipes, sockets and character devices only")
}

// The same questions get the same answers everywhere.
func TestLineProtocolAnywhere(t *testing.T) {
	const questions, answers = "to be or not\n\none\n", "1: not or be to\n2: \n3: one\n"
	dir, err := os.MkdirTemp("", "lines") // t.TempDir's paths may be too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	for network, addr := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(dir, "s")} {
		t.Run(network, func(t *testing.T) {
			addr, stop := start(t, "line-protocol-anywhere", network, addr)
			c, err := net.Dial(network, addr)
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
			for i := range questions { // a byte at a time
				_, err = io.WriteString(c, questions[i:i+1])
				require.NoError(t, err)
			}
			require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, answers, string(got))
			stop()
		})
	}
	t.Run("stdio", func(t *testing.T) {
		cmd := program(t, "line-protocol-anywhere", "stdio")
		cmd.Stdin = strings.NewReader(questions + "no newline here")
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, answers, string(out))
	})
	t.Run("too long", func(t *testing.T) {
		cmd := program(t, "line-protocol-anywhere", "stdio")
		cmd.Stdin = strings.NewReader("short\n" + strings.Repeat("x", 65<<10))
		out, _ := cmd.Output() // the rest of the line may have nowhere to go
		require.Equal(t, "1: short\nline too long\n", string(out))
	})
	t.Run("child", func(t *testing.T) {
		skipWithoutShell(t)
		cmd := program(t, "line-protocol-anywhere", "child", `
			echo to be or not; read answer; echo "$answer" >&2
			echo; read answer; echo "$answer" >&2
			echo one; read answer; echo "$answer" >&2`)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		require.NoError(t, cmd.Run(), "%s", stderr.String())
		require.Equal(t, strings.ReplaceAll(answers, ": \n", ":\n"), stderr.String(), "read takes the space at the end")

		out, err := program(t, "line-protocol-anywhere", "child", "exit 3").CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "return code is 3")
	})
	out, err := program(t, "line-protocol-anywhere", "nowhere").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "usage: line-protocol-anywhere")
}
