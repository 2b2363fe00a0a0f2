package strand_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// needs skips the test if a program is not there.
func needs(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// certFiles writes the test's certificate and its key.
func certFiles(t testing.TB) (cert, key string) {
	t.Helper()
	pair, _ := testCert()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		key:  {Type: "PRIVATE KEY", Bytes: der},
	} {
		require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(block), 0o600))
	}
	return cert, key
}

// child is a program that talks through its standard streams. It is killed
// with the test.
type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan error

	mu      sync.Mutex
	out     strings.Builder
	changed chan struct{}
}

func run(t testing.TB, name string, args ...string) *child {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	c := &child{t: t, cmd: exec.CommandContext(ctx, name, args...), ended: make(chan error, 1), changed: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = c, c
	var err error
	c.stdin, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	waited := make(chan struct{})
	go func() {
		c.ended <- c.cmd.Wait()
		close(waited)
	}()
	t.Cleanup(func() {
		cancel()
		<-waited
	})
	return c
}

func (c *child) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Write(p)
	close(c.changed)
	c.changed = make(chan struct{})
	return len(p), nil
}

func (c *child) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// expect waits until the program has said something, and returns its match.
func (c *child) expect(pattern string) string {
	c.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(2 * patience)
	for {
		c.mu.Lock()
		out, changed := c.out.String(), c.changed
		c.mu.Unlock()
		if m := re.FindString(out); m != "" {
			return m
		}
		select {
		case <-changed:
		case <-timeout:
			c.t.Fatalf("%s never said %q, only:\n%s", c.cmd.Args[0], pattern, out)
		}
	}
}

func (c *child) say(line string) {
	c.t.Helper()
	_, err := io.WriteString(c.stdin, line)
	require.NoError(c.t, err)
}

// wait wants the program to end well.
func (c *child) wait() {
	c.t.Helper()
	require.NoError(c.t, await(c.t, "the end of "+c.cmd.Args[0], c.ended), "%s", c.output())
}

// opensslVersions are the versions of TLS with the option that chooses them.
var opensslVersions = map[string]uint16{"-tls1_2": tls.VersionTLS12, "-tls1_3": tls.VersionTLS13}

// openssl s_client as a client of ours: both versions, ALPN, a client
// certificate, new keys in both directions, a goodbye.
func TestInteropOpenSSLClient(t *testing.T) {
	openssl := needs(t, "openssl")
	cert, key := certFiles(t)
	_, pool := testCert()
	for option, version := range opensslVersions {
		t.Run(option, func(t *testing.T) {
			opts := serverTLS()
			opts.Config.NextProtos = []string{"echo"}
			opts.Config.ClientAuth = tls.RequireAndVerifyClientCert
			opts.Config.ClientCAs = pool
			opts.StrictEOF = true
			server, accepted := secureServer(t, "tcp", "127.0.0.1:0", opts, nil)
			c := run(t, openssl, "s_client", "-connect", server.Addrs()[0].String(), option, "-CAfile", cert, "-servername", "localhost",
				"-verify_return_error", "-alpn", "other,echo", "-cert", cert, "-key", key)
			c.expect("Verify return code: 0")
			c.say("hello\n")
			c.expect("(?m)^hello$")
			if version == tls.VersionTLS13 {
				for i, command := range []string{"K", "k", "K"} {
					c.say(command + "\n")
					c.expect(fmt.Sprintf("(?s)(KEYUPDATE.*){%d}", i+1))
					c.say(fmt.Sprintf("after %d\n", i))
					c.expect(fmt.Sprintf("(?m)^after %d$", i))
				}
			}
			r := await(t, "the protocol", accepted)
			state, _ := strand.TLSState(r.transport())
			require.Equal(t, version, state.Version)
			require.Equal(t, "echo", state.NegotiatedProtocol)
			require.NotNil(t, r.transport().ExtraInfo(strand.ExtraPeerCert))
			c.say("Q\n")
			c.wait()
			require.NoError(t, r.awaitLost(t), "s_client says goodbye")
			require.Contains(t, r.trace(), "EOFReceived")
		})
	}
}

// Sessions are resumed by openssl too.
func TestInteropOpenSSLResumption(t *testing.T) {
	openssl := needs(t, "openssl")
	cert, _ := certFiles(t)
	for option := range opensslVersions {
		t.Run(option, func(t *testing.T) {
			server, _ := secureServer(t, "tcp", "127.0.0.1:0", serverTLS(), nil)
			session := filepath.Join(t.TempDir(), "session")
			for _, want := range []string{"New", "Reused"} {
				args := []string{"s_client", "-connect", server.Addrs()[0].String(), option, "-CAfile", cert, "-servername", "localhost", "-sess_out", session}
				if want == "Reused" {
					args = append(args, "-sess_in", session)
				}
				c := run(t, openssl, args...)
				c.expect("(?m)^" + want + ", TLS")
				c.say("hello\n")
				c.expect("(?m)^hello$") // the ticket came before it
				c.say("Q\n")
				c.wait()
			}
		})
	}
}

// openssl s_client through STARTTLS, as it is spoken in SMTP.
func TestInteropOpenSSLStartTLS(t *testing.T) {
	openssl := needs(t, "openssl")
	cert, _ := certFiles(t)
	accepted := make(chan *recorder, 1)
	server, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() *recorder {
		r := newRecorder()
		r.onMade = func(tr strand.Transport) { tr.Write([]byte("220 test\r\n")) }
		r.onData = func(data []byte) {
			tr := r.transport()
			switch verb, _, _ := strings.Cut(string(data), " "); strings.TrimSpace(verb) {
			case "EHLO":
				tr.Write([]byte("250-test\r\n250 STARTTLS\r\n"))
			case "STARTTLS":
				tr.Write([]byte("220 go\r\n"))
				if err := strand.StartTLS(tr, serverTLS(), nil); err != nil {
					t.Error(err)
				}
			default:
				tr.Write(data)
			}
		}
		accepted <- r
		return r
	}, nil)
	require.NoError(t, err)
	defer server.Close()
	c := run(t, openssl, "s_client", "-starttls", "smtp", "-connect", server.Addrs()[0].String(), "-CAfile", cert, "-verify_return_error")
	c.expect("Verify return code: 0")
	c.say("hello\n")
	c.expect("(?m)^hello$")
	c.say("Q\n")
	c.wait()
	require.NoError(t, await(t, "the protocol", accepted).awaitLost(t))
}

// openssl s_server as a server of ours: it asks for new keys as well.
func TestInteropOpenSSLServer(t *testing.T) {
	openssl := needs(t, "openssl")
	cert, key := certFiles(t)
	for option, version := range opensslVersions {
		t.Run(option, func(t *testing.T) {
			c := run(t, openssl, "s_server", "-accept", "127.0.0.1:0", option, "-cert", cert, "-key", key)
			addr := strings.TrimPrefix(c.expect(`ACCEPT 127\.0\.0\.1:\d+`), "ACCEPT ")
			r := newRecorder()
			tr, _, err := strand.CreateConnection(context.Background(), "tcp", addr, func() *recorder { return r }, &strand.ConnectOptions{TLS: clientTLS()})
			require.NoError(t, err)
			state, _ := strand.TLSState(tr)
			require.Equal(t, version, state.Version)
			tr.Write([]byte("hello\n"))
			c.expect("(?m)^hello$")
			c.say("answer\n")
			r.awaitData(t, len("answer\n"))
			if version == tls.VersionTLS13 {
				c.say("K\n")
				c.expect("SSL_do_handshake -> 1") // what it reads together with the K it drops
				c.say("after\n")
				r.awaitData(t, len("answer\nafter\n"))
				tr.Write([]byte("new key\n"))
				c.expect("(?m)^new key$")
			}
			c.say("Q\n")
			c.wait()
			require.NoError(t, r.awaitLost(t))
			require.Equal(t, "answer\nafter\n"[:len(r.received())], string(r.received()))
		})
	}
}

// pythonTLSClient echoes through a server, first in clear if it is to upgrade.
const pythonTLSClient = `
import asyncio, os, ssl, sys
port, ca, starttls = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "starttls"
async def main():
    context = ssl.create_default_context(cafile=ca)
    if starttls:
        r, w = await asyncio.open_connection("127.0.0.1", port)
        w.write(b"STARTTLS")
        assert await r.readexactly(2) == b"OK"
        await w.start_tls(context, server_hostname="localhost")
    else:
        r, w = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    sent = os.urandom(1000000)
    async def send():
        for i in range(0, len(sent), 70001):
            w.write(sent[i:i + 70001])
            await w.drain()
    sending = asyncio.create_task(send())
    assert await r.readexactly(len(sent)) == sent
    await sending
    w.close()
    await w.wait_closed()
    print("well done", w.get_extra_info("cipher"))
asyncio.run(main())
`

// python3's asyncio as a client, from the beginning and by STARTTLS.
func TestInteropPythonClient(t *testing.T) {
	python := needsPythonTLS(t)
	cert, _ := certFiles(t)
	for _, how := range []string{"tls", "starttls"} {
		t.Run(how, func(t *testing.T) {
			ends := make(chan error, 1)
			server, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() *echoOrUpgrade {
				return &echoOrUpgrade{ends: ends}
			}, &strand.ServerOptions{TLS: map[string]*strand.TLSOptions{"tls": serverTLS()}[how]})
			require.NoError(t, err)
			defer server.Close()
			_, port, _ := net.SplitHostPort(server.Addrs()[0].String())
			c := run(t, python, "-c", pythonTLSClient, port, cert, how)
			c.wait()
			require.Contains(t, c.output(), "well done")
			require.NoError(t, await(t, "the end", ends))
		})
	}
}

// echoOrUpgrade echoes, with back pressure, and upgrades at STARTTLS.
type echoOrUpgrade struct {
	strand.NopProtocol
	t    strand.Transport
	ends chan error
}

func (p *echoOrUpgrade) ConnectionMade(t strand.Transport) { p.t = t }
func (p *echoOrUpgrade) PauseWriting()                     { p.t.PauseReading() }
func (p *echoOrUpgrade) ResumeWriting()                    { p.t.ResumeReading() }
func (p *echoOrUpgrade) ConnectionLost(err error)          { p.ends <- err }

func (p *echoOrUpgrade) DataReceived(data []byte) {
	if string(data) == "STARTTLS" {
		p.t.Write([]byte("OK"))
		strand.StartTLS(p.t, serverTLS(), nil)
		return
	}
	p.t.Write(data)
}

func needsPythonTLS(t testing.TB) string {
	t.Helper()
	python := needs(t, "python3")
	if exec.Command(python, "-c", "import ssl, asyncio, sys; sys.exit(sys.version_info < (3, 11))").Run() != nil {
		t.Skip("python3 lacks ssl, or asyncio's start_tls: it is older than 3.11")
	}
	return python
}

// pythonTLSServer echoes one connection, upgraded if it starts with STARTTLS.
const pythonTLSServer = `
import asyncio, ssl, sys
cert, key, starttls = sys.argv[1], sys.argv[2], sys.argv[3] == "starttls"
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
async def main():
    done = asyncio.Event()
    async def serve(r, w):
        if starttls:
            assert await r.readexactly(8) == b"STARTTLS"
            w.write(b"OK")
            await w.start_tls(context)
        total = 0
        while data := await r.read(65536):
            total += len(data)
            w.write(data)
            await w.drain()
        w.close()
        print("echoed", total, flush=True)
        done.set()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if starttls else context)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await done.wait()
asyncio.run(main())
`

// python3's asyncio as a server of ours.
func TestInteropPythonServer(t *testing.T) {
	python := needsPythonTLS(t)
	cert, key := certFiles(t)
	for _, how := range []string{"tls", "starttls"} {
		t.Run(how, func(t *testing.T) {
			c := run(t, python, "-c", pythonTLSServer, cert, key, how)
			port := strings.TrimPrefix(c.expect(`port \d+`), "port ")
			r := newRecorder()
			opts := &strand.ConnectOptions{}
			if how == "tls" {
				opts.TLS = clientTLS()
			}
			tr, _, err := strand.CreateConnection(context.Background(), "tcp", "127.0.0.1:"+port, func() *recorder { return r }, opts)
			require.NoError(t, err)
			head := 0
			if how == "starttls" {
				tr.Write([]byte("STARTTLS"))
				r.awaitData(t, 2)
				head = 2
				require.NoError(t, strand.StartTLSWait(context.Background(), tr, clientTLS()))
			}
			sent := randomBytes(1_000_000)
			_, err = tr.Write(sent)
			require.NoError(t, err)
			r.awaitData(t, head+len(sent))
			requireSame(t, sent, r.received()[head:], "the echo")
			tr.Close()
			require.NoError(t, r.awaitLost(t))
			c.expect("echoed 1000000")
			c.wait()
		})
	}
}

// page answers every HTTP request.
type page struct {
	strand.NopProtocol
	t   strand.Transport
	req bytes.Buffer
}

func (p *page) ConnectionMade(t strand.Transport) { p.t = t }

func (p *page) DataReceived(data []byte) {
	p.req.Write(data)
	if bytes.HasSuffix(p.req.Bytes(), []byte("\r\n\r\n")) {
		p.t.WriteLines([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"), bytes.Repeat([]byte("strand "), 50_000))
		p.t.Close()
	}
}

// curl over HTTPS: the end of the page is our goodbye.
func TestInteropCurl(t *testing.T) {
	curl := needs(t, "curl")
	cert, _ := certFiles(t)
	server, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() *page { return new(page) }, &strand.ServerOptions{TLS: serverTLS()})
	require.NoError(t, err)
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Addrs()[0].String())
	for _, version := range []string{"--tlsv1.2", "--tlsv1.3"} {
		cmd := exec.Command(curl, "-sS", "--noproxy", "*", version, "--tls-max", version[len("--tlsv"):], "--cacert", cert,
			"--resolve", "localhost:"+port+":127.0.0.1", "https://localhost:"+port+"/")
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, strings.Repeat("strand ", 50_000), string(out))
	}
	_, err = exec.Command(curl, "-sS", "--noproxy", "*", "https://127.0.0.1:"+port+"/").Output()
	require.Error(t, err, "nobody trusts the certificate")
	require.Eventually(t, func() bool { return server.FailedHandshakes() == 1 }, patience, time.Millisecond, "curl does not wait for us to see it")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, server.Shutdown(ctx))
	require.EqualValues(t, 1, server.FailedHandshakes())
}
