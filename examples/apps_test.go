package examples

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// client is a connection that a test talks over, line by line.
type client struct {
	*net.TCPConn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return &client{c.(*net.TCPConn), t, bufio.NewReader(c)}
}

func (c *client) say(text string) {
	c.t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(c.t, err)
}

func (c *client) want(text string) {
	c.t.Helper()
	got := make([]byte, len(text))
	_, err := io.ReadFull(c.r, got)
	require.NoError(c.t, err, "%q instead of %q", got, text)
	require.Equal(c.t, text, string(got))
}

func (c *client) wantEOF() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	require.NoError(c.t, err)
	require.Empty(c.t, string(rest))
}

func TestFileServer(t *testing.T) {
	dir := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "big"), big, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "small"), []byte("hello"), 0o600))
	addr, stop := start(t, "file-server", "-addr", "127.0.0.1:0", "-dir", dir)
	c := dial(t, addr)
	c.say("big\nsmall\r\nnone\n../examples_test.go\n.\n")
	c.want(fmt.Sprintf("ok %d\n%s", len(big), big))
	c.want("ok 5\nhello")
	for range 3 {
		line, err := c.r.ReadString('\n')
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(line, "error "), line)
	}
	c.Close()
	stop()
}

func TestChatRoom(t *testing.T) {
	addr, stop := start(t, "chat-room", "-addr", "127.0.0.1:0")
	a := dial(t, addr)
	a.want("you are member 1\n")
	b := dial(t, addr)
	b.want("you are member 2\n")
	a.want("member 2 has come\n")
	a.say("good mor")
	a.say("ning\nand good ")
	b.want("member 1: good morning\n")
	a.say("night\n")
	b.want("member 1: and good night\n")
	b.Close()
	a.want("member 2 has left\n")
	a.Close()
	stop()
}

// A member who does not read misses lines, and keeps nobody waiting.
func TestChatRoomSlowMember(t *testing.T) {
	addr, stop := start(t, "chat-room", "-addr", "127.0.0.1:0")
	slow := dial(t, addr)
	slow.want("you are member 1\n")
	fast := dial(t, addr)
	fast.want("you are member 2\n")
	line := strings.Repeat("x", 900) + "\n"
	for range 40_000 { // more than the kernel's buffers and the room's hold
		fast.say(line)
	}
	fast.Close()
	all, err := io.ReadAll(untilLine(slow.r, "member 2 has left"))
	require.NoError(t, err)
	require.Contains(t, string(all), "you have missed ")
	slow.Close()
	stop()
}

// untilLine reads up to a line, or to one that says that lines were missed.
func untilLine(r *bufio.Reader, last string) io.Reader {
	pr, pw := io.Pipe()
	go func() {
		for {
			line, err := r.ReadString('\n')
			pw.Write([]byte(line))
			if err != nil || strings.HasPrefix(line, last) || strings.HasPrefix(line, "you have missed") {
				pw.CloseWithError(err)
				return
			}
		}
	}()
	return pr
}

func TestProxy(t *testing.T) {
	echo, stopEcho := start(t, "tcp-echo-server", "-addr", own)
	addr, stop := start(t, "tcp-proxy", "-addr", "127.0.0.1:0", "-to", echo)
	c := dial(t, addr)
	message := strings.Repeat("through the proxy ", 100_000)
	go func() {
		io.WriteString(c, message)
		c.CloseWrite()
	}()
	c.want(message)
	c.wantEOF()
	stopEcho()
	none := dial(t, addr)
	_, err := io.ReadAll(none.r)
	if err == nil {
		none.wantEOF() // nobody to pass it on to: closed, or reset
	}
	stop()
}

// Half closes are passed on both ways: each end hears the other's last word
// after its own.
func TestProxyHalfClose(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	addr, stop := start(t, "tcp-proxy", "-addr", "127.0.0.1:0", "-to", ln.Addr().String())
	c := dial(t, addr)
	conn, err := ln.Accept()
	require.NoError(t, err)
	defer conn.Close()
	upstream := &client{conn.(*net.TCPConn), t, bufio.NewReader(conn)}
	c.say("question")
	require.NoError(t, c.CloseWrite())
	upstream.want("question")
	upstream.wantEOF()
	upstream.say("answer")
	require.NoError(t, upstream.CloseWrite())
	c.want("answer")
	c.wantEOF()
	stop()
}

const httpHello = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, strand!"

func TestHTTPResponder(t *testing.T) {
	addr, stop := start(t, "http-responder", "-addr", "127.0.0.1:0")
	c := dial(t, addr)
	request := "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	c.say(request + request + request[:10])
	c.want(httpHello + httpHello)
	c.say(request[10:] + "POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nbo")
	c.want(httpHello + httpHello)
	c.say("dy!" + request)
	c.want(httpHello)
	for _, b := range []byte("GET / HTTP/1.1\r\nConnection: close\r\n\r\n") {
		c.say(string(b))
	}
	c.want(httpHello)
	c.wantEOF()
	for bad, status := range map[string]string{
		"nonsense\r\n\r\n": "400 Bad Request",
		"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n": "501 Not Implemented",
		"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n":         "400 Bad Request",
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 17<<10):  "431 Request Header Fields Too Large",
	} {
		c := dial(t, addr)
		c.say(bad)
		c.want("HTTP/1.1 " + status + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	}
	stop()
}

func TestHTTPResponderWithCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	addr, stop := start(t, "http-responder", "-addr", "127.0.0.1:0")
	url := "http://" + addr + "/"
	out, err := exec.Command(curl, "-sS", "--noproxy", "*", url, url, "-d", "some data", url).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, strings.Repeat("Hello, strand!", 3), string(out))
	stop()
}

func TestRedisSubset(t *testing.T) {
	addr, stop := start(t, "redis-subset", "-addr", "127.0.0.1:0")
	c := dial(t, addr)
	commands := "PING\r\n*2\r\n$4\r\nECHO\r\n$5\r\nhe\r\no\r\n" +
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n" +
		"INCR k\r\nINCR new\r\nSET s text\r\nINCR s\r\nSET s 9223372036854775807\r\nINCR s\r\nDEL k new none\r\nWHAT is this\r\n"
	answers := "+PONG\r\n$5\r\nhe\r\no\r\n+OK\r\n$1\r\n1\r\n$-1\r\n:2\r\n:1\r\n+OK\r\n" +
		"-ERR value is not an integer or out of range\r\n+OK\r\n-ERR value is not an integer or out of range\r\n:2\r\n-ERR unknown command '\"WHAT\"', or wrong number of arguments\r\n"
	c.say(commands)
	c.want(answers)
	for _, b := range []byte(commands) { // in single bytes
		c.say(string(b))
	}
	c.want(answers)
	for _, bad := range []string{"*x\r\n", "*1\r\n:1\r\n", "*1\r\n\r\n", "*1\r\n$9999999\r\n", "*1\r\n$-1\r\n"} {
		c := dial(t, addr)
		c.say(bad)
		c.want("-ERR Protocol error: ")
	}
	stop()
}

func TestRedisSubsetWithItsClients(t *testing.T) {
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Skip("redis-cli is not installed")
	}
	addr, stop := start(t, "redis-subset", "-addr", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	out, err := exec.Command(cli, "-p", port, "INCR", "counter").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "1")
	out, err = exec.Command("redis-benchmark", "-p", port, "-P", "16", "-n", "20000", "-q", "-t", "set,get,incr").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "requests per second")
	stop()
}
