package examples

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// trusting trusts everybody: the programs make their own certificates.
var trusting = &tls.Config{InsecureSkipVerify: true}

func dialTLS(t *testing.T, addr string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", addr, trusting)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

func TestTLSEchoServer(t *testing.T) {
	for _, args := range [][]string{{"tls-echo-server"}, {"echo-bench-server", "-tls"}} {
		t.Run(args[0], func(t *testing.T) {
			addr, stop := start(t, args[0], append(args[1:], "-addr", "127.0.0.1:0")...)
			c := dialTLS(t, addr)
			require.Equal(t, uint16(tls.VersionTLS13), c.ConnectionState().Version)
			_, err := io.WriteString(c, "ping")
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			answer, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, "ping", string(answer))
			stop()
		})
	}
}

func TestTLSEchoServerWithoutKey(t *testing.T) {
	for _, name := range []string{"tls-echo-server", "starttls-server"} {
		out, err := program(t, name, "-addr", "127.0.0.1:0", "-cert", "nowhere.pem").CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "nowhere.pem")
	}
}

// smtp is a client's side of a conversation.
type smtp struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (c *smtp) over(conn net.Conn) {
	require.NoError(c.t, conn.SetDeadline(time.Now().Add(patience)))
	c.Conn, c.r = conn, bufio.NewReader(conn)
}

// expect reads an answer of one line or several.
func (c *smtp) expect(code string) {
	c.t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		require.NoError(c.t, err)
		require.Equal(c.t, code, line[:3], line)
		if line[3] == ' ' {
			return
		}
	}
}

func (c *smtp) ask(line, code string) {
	c.t.Helper()
	_, err := io.WriteString(c, line+"\r\n")
	require.NoError(c.t, err)
	c.expect(code)
}

func TestStartTLSServer(t *testing.T) {
	addr, stop := start(t, "starttls-server", "-addr", "127.0.0.1:0")
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	c := &smtp{t: t}
	c.over(conn)
	c.expect("220")
	c.ask("EHLO me", "250")
	c.ask("MAIL FROM:<a@b>", "530")
	c.ask("STARTTLS", "220")
	c.over(tls.Client(conn, trusting))
	c.ask("EHLO me", "250")
	c.ask("STARTTLS", "500")
	c.ask("MAIL FROM:<a@b>", "250")
	c.ask("RCPT TO:<c@d>", "250")
	c.ask("DATA", "354")
	c.ask("hello\r\n..\r\n.", "250")
	c.ask("NOOP", "250")
	c.ask("QUIT", "221")
	_, err = c.r.ReadByte()
	require.Equal(t, io.EOF, err)
	require.NoError(t, c.Close()) // the server waits for the client's goodbye
	stop()
}

// A command that comes with STARTTLS may be anybody's.
func TestStartTLSServerInjection(t *testing.T) {
	addr, stop := start(t, "starttls-server", "-addr", "127.0.0.1:0")
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	c := &smtp{t: t}
	c.over(conn)
	c.expect("220")
	c.ask("STARTTLS\r\nMAIL FROM:<injected@x>", "501")
	_, err = c.r.ReadByte()
	require.Equal(t, io.EOF, err)
	stop()
}

func TestStartTLSServerWithOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	addr, stop := start(t, "starttls-server", "-addr", "127.0.0.1:0")
	cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-starttls", "smtp", "-crlf", "-quiet", "-connect", addr)
	cmd.Stdin = strings.NewReader("NOOP\nQUIT\n")
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "250 ok\r\n221 goodbye\r\n")
	stop()
}

func TestStartTLSServerWithCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	if out, _ := exec.Command(curl, "--version").Output(); !strings.Contains(string(out), " smtp ") {
		t.Skip("this curl does not speak SMTP")
	}
	addr, stop := start(t, "starttls-server", "-addr", "127.0.0.1:0")
	send := func(args ...string) error {
		cmd := exec.CommandContext(t.Context(), curl, append(args, "-sS", "--noproxy", "*", "smtp://"+addr, "--mail-from", "a@b", "--mail-rcpt", "c@d", "-T", "-")...)
		cmd.Stdin = strings.NewReader("Subject: test\r\n\r\nhello\r\n")
		return cmd.Run()
	}
	require.NoError(t, send("--ssl-reqd", "-k"))
	require.Error(t, send("--ssl-reqd"), "nobody trusts the certificate")
	require.Error(t, send(), "not in clear")
	stop()
}
