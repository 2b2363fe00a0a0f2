package examples

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// wantFailure runs a program that has to fail, and say why.
func wantFailure(t *testing.T, why, name string, args ...string) {
	t.Helper()
	out, err := program(t, name, args...).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Contains(t, string(out), why)
}

func TestStreamsEchoServerAndClient(t *testing.T) {
	addr, stop := start(t, "streams-echo-server", "-addr", own)
	roundTrip(t, "tcp", addr)
	require.Equal(t, "sent: \"Hello World!\"\nreceived: \"Hello World!\"\n", output(t, "streams-echo-client", "-addr", addr))
	require.Equal(t, "sent: \"\"\nreceived: \"\"\n", output(t, "streams-echo-client", "-addr", addr, "-message", ""))
	stop()
	wantFailure(t, addr, "streams-echo-client", "-addr", addr)
}

// The server's end is the end of what its clients read, and no error.
func TestStreamsEchoServerStopsWithClients(t *testing.T) {
	addr, stop := start(t, "streams-echo-server", "-addr", "127.0.0.1:0")
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "ping")
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 4))
	require.NoError(t, err)
	stop()
	rest, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Empty(t, rest)
}

func TestStreamsExistingSocket(t *testing.T) {
	require.Equal(t, "received: \"one\\n\"\nreceived: \"two\\n\"\nclosed: <nil>\n", output(t, "streams-existing-socket"))
}

var headers = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header()["Date"] = nil
	w.Header().Set("X-Asked", r.Method+" "+r.URL.String()+" of "+r.Host)
})

func wantHeaders(t *testing.T, out string, server *httptest.Server) {
	t.Helper()
	require.Equal(t, "HTTP/1.0 200 OK\nX-Asked: HEAD /path?q=1 of "+server.Listener.Addr().String()+"\n", out)
}

func TestHTTPHeaders(t *testing.T) {
	server := httptest.NewServer(headers)
	defer server.Close()
	wantHeaders(t, output(t, "http-headers", server.URL+"/path?q=1"), server)
	wantFailure(t, "http", "http-headers", "ftp://127.0.0.1/")
	wantFailure(t, "usage", "http-headers")
}

func TestHTTPSHeaders(t *testing.T) {
	server := httptest.NewUnstartedServer(headers)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of the client that does not trust it
	server.StartTLS()
	defer server.Close()
	url := server.URL + "/path?q=1"
	wantFailure(t, "certificate", "http-headers", url)

	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Skip("there is no SSL_CERT_FILE on this system")
	}
	file := filepath.Join(t.TempDir(), "roots.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(file, cert, 0o600))
	cmd := program(t, "http-headers", url)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+file)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	wantHeaders(t, string(out), server)
}
