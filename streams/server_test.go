package streams_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/internal/testkit"
	"github.com/gostrand/strand/streams"
)

// SS-01; test_open_connection, test_open_unix_connection,
// test_open_connection_no_loop_ssl, test_open_unix_connection_no_loop_ssl.
func TestOpenConnection(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "Test message") })
	path := socketPath(t)
	for _, network := range []string{"tcp", "unix"} {
		for _, secure := range []bool{false, true} {
			server := httptest.NewUnstartedServer(page)
			address := server.Listener.Addr().String()
			if network == "unix" {
				server.Listener.Close()
				ln, err := net.Listen("unix", path)
				require.NoError(t, err)
				server.Listener, address = ln, path
			}
			opts := &streams.Options{Limit: 1000}
			if secure {
				server.TLS = serverTLS().Config
				server.StartTLS()
				opts.TLS = clientTLS()
				if network == "unix" {
					opts.TLS.ServerName = "localhost"
				}
			} else {
				server.Start()
			}
			r, w := dial(t, network, address, opts)
			require.Equal(t, 1000, r.Limit())
			_, err := io.WriteString(w, "GET / HTTP/1.0\r\n\r\n")
			require.NoError(t, err)
			wantData(t, "HTTP/1.0 200 OK\r\n")(r.ReadLine(within(t)))
			rest, err := r.ReadAll(within(t))
			require.NoError(t, err)
			require.True(t, strings.HasSuffix(string(rest), "\r\n\r\nTest message"), string(rest))
			require.Equal(t, secure, w.IsClosing(), "SW-07: over TLS the peer's end is the end, elsewhere not")
			w.Close()
			require.NoError(t, w.WaitClosed(within(t)))
			server.Close()
		}
	}
}

// SS-01.
func TestOpenConnectionFails(t *testing.T) {
	ln, err := net.Listen("tcp", testkit.OwnHost()+":0")
	require.NoError(t, err)
	ln.Close()
	r, w, err := streams.OpenConnection(within(t), "tcp", ln.Addr().String(), nil)
	require.Error(t, err)
	require.Nil(t, r)
	require.Nil(t, w)
}

// handleLine is the handler of CPython's test: one line comes back.
func handleLine(t testing.TB) func(*streams.Reader, *streams.Writer) {
	return func(r *streams.Reader, w *streams.Writer) {
		ctx := context.Background()
		line, err := r.ReadLine(ctx)
		if err == nil {
			_, err = w.Write(line)
		}
		if err = errors.Join(err, w.Close(), w.WaitClosed(ctx)); err != nil {
			t.Errorf("the handler: %v", err)
		}
	}
}

func wantHello(t testing.TB, network, address string, opts *streams.Options) {
	t.Helper()
	r, w := dial(t, network, address, opts)
	_, err := io.WriteString(w, "hello world!\n")
	require.NoError(t, err)
	wantData(t, "hello world!\n")(r.ReadLine(within(t)))
	w.Close()
	require.NoError(t, w.WaitClosed(within(t)))
}

// SS-02; test_start_server.
func TestStartServer(t *testing.T) {
	_, address := start(t, handleLine(t), nil)
	wantHello(t, "tcp", address, nil)
	wantHello(t, "tcp", address, nil)
}

// SS-02; test_start_unix_server.
func TestStartUnixServer(t *testing.T) {
	path := socketPath(t)
	startOn(t, "unix", path, handleLine(t), nil)
	wantHello(t, "unix", path, nil)
}

// SS-02: the handler is called once ConnectionMade is there, over TLS too.
func TestStartTLSServer(t *testing.T) {
	opts := &streams.ServerOptions{Limit: 77}
	opts.TLS = serverTLS()
	_, address := start(t, func(r *streams.Reader, w *streams.Writer) {
		if _, ok := strand.TLSState(w.Transport()); !ok || r.Limit() != 77 {
			t.Error("the handler has come before the handshake was over, or has other options")
		}
		handleLine(t)(r, w)
	}, opts)
	wantHello(t, "tcp", address, &streams.Options{ConnectOptions: strand.ConnectOptions{TLS: clientTLS()}})
}

// SS-02; test_start_server with a socket.
func TestServeListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server, err := streams.ServeListener(ln, handleLine(t), nil)
	require.NoError(t, err)
	wantHello(t, "tcp", ln.Addr().String(), nil)
	require.NoError(t, server.Shutdown(within(t)))

	_, err = streams.ServeListener(nil, handleLine(t), nil)
	require.Error(t, err)
	_, err = streams.ServeListener(ln, nil, nil)
	require.Error(t, err)
}

// Handlers run beside each other and may block.
func TestHandlersAreIndependent(t *testing.T) {
	both := make(chan struct{})
	_, address := start(t, func(*streams.Reader, *streams.Writer) {
		select {
		case both <- struct{}{}:
		case <-both:
		}
	}, nil)
	r1, _ := dial(t, "tcp", address, nil)
	r2, _ := dial(t, "tcp", address, nil)
	wantData(t, "")(r1.ReadAll(within(t)))
	wantData(t, "")(r2.ReadAll(within(t)))
}

// SS-03; test_unhandled_exception: also if the handler has closed already.
// SS-06 with SPEC.md's difference: that is what every handler's panic does.
func TestHandlerPanics(t *testing.T) {
	for _, closes := range []bool{false, true} {
		var log testkit.LogBuffer
		opts := &streams.ServerOptions{}
		opts.Logger = log.Logger(slog.LevelInfo)
		server, address := start(t, func(r *streams.Reader, w *streams.Writer) {
			if closes {
				w.Close()
			}
			panic("test")
		}, opts)
		r, w := dial(t, "tcp", address, nil)
		wantData(t, "")(r.ReadAll(within(t)))
		w.Close()
		require.NoError(t, server.Shutdown(within(t)))
		got := awaitLog(t, &log, "handler panicked")
		require.Contains(t, got, "callback panicked: test")
		require.Contains(t, got, "server_test.go", "the stack")
		require.Contains(t, got, address)
		require.Equal(t, 1, strings.Count(got, "level=ERROR"))
	}
}

// awaitLog waits for a record: the handler's goroutine may outlive its
// connection.
func awaitLog(t testing.TB, log *testkit.LogBuffer, text string) string {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(log.String(), text) }, patience, 1e6)
	return log.String()
}

// SS-04; test_unhandled_cancel: a goroutine that is cancelled is no failure.
func TestHandlerGoexit(t *testing.T) {
	var log testkit.LogBuffer
	opts := &streams.ServerOptions{}
	opts.Logger = log.Logger(slog.LevelInfo)
	server, address := start(t, func(*streams.Reader, *streams.Writer) { runtime.Goexit() }, opts)
	r, _ := dial(t, "tcp", address, nil)
	wantData(t, "")(r.ReadAll(within(t)))
	require.NoError(t, server.Shutdown(within(t)))
	require.Empty(t, log.String())
}

// SS-05: returning closes, and what was written still goes out.
func TestHandlerReturns(t *testing.T) {
	want := pattern(4 << 20)
	var log testkit.LogBuffer
	opts := &streams.ServerOptions{}
	opts.Logger = log.Logger(slog.LevelInfo)
	_, address := start(t, func(_ *streams.Reader, w *streams.Writer) { w.Write(want) }, opts)
	r, _ := dial(t, "tcp", address, nil)
	got, err := r.ReadAll(within(t))
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	require.Empty(t, log.String())
}

// Shutdown ends what handlers read, and lets them finish what they write.
func TestShutdownLetsHandlersFinish(t *testing.T) {
	reading := make(chan struct{})
	server, address := start(t, func(r *streams.Reader, w *streams.Writer) {
		w.Write([]byte("hello\n"))
		close(reading)
		if _, err := r.ReadAll(context.Background()); err != nil {
			t.Errorf("the end is clean: %v", err)
		}
		w.Write([]byte("goodbye"))
	}, nil)
	r, _ := dial(t, "tcp", address, nil)
	wantData(t, "hello\n")(r.ReadLine(within(t)))
	await(t, "the handler's read", reading)
	require.NoError(t, server.Shutdown(within(t)))
	wantData(t, "goodbye")(r.ReadAll(within(t)))
}

// A handler that does not heed it is aborted when the context ends.
func TestShutdownAborts(t *testing.T) {
	running, released := make(chan struct{}), make(chan error, 1)
	server, address := start(t, func(r *streams.Reader, w *streams.Writer) {
		close(running)
		released <- w.WaitClosed(context.Background())
	}, nil)
	r, _ := dial(t, "tcp", address, nil)
	await(t, "the handler", running)
	require.Equal(t, context.Canceled, server.Shutdown(cancelled))
	require.NoError(t, await(t, "the handler's end", released))
	wantData(t, "")(r.ReadAll(within(t)))
}

// CloseClients closes the Writers, and handlers go on until they notice.
func TestCloseClients(t *testing.T) {
	running, ended := make(chan struct{}), make(chan error, 1)
	server, address := start(t, func(r *streams.Reader, w *streams.Writer) {
		close(running)
		got, err := r.ReadAll(context.Background())
		_, werr := w.Write([]byte("too late"))
		if len(got) != 0 || err != nil || !w.IsClosing() || !errors.Is(werr, net.ErrClosed) {
			err = errors.Join(err, fmt.Errorf("read %q, write: %w", got, werr))
		}
		ended <- err
	}, nil)
	r, _ := dial(t, "tcp", address, nil)
	await(t, "the handler", running)
	server.CloseClients()
	require.NoError(t, await(t, "the handler's end", ended))
	wantData(t, "")(r.ReadAll(within(t)))
}

// A Protocol used in a server without a handler is closed by Shutdown.
func TestShutdownWithoutHandler(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server, err := strand.ServeListener(ln, func() *streams.Protocol { return streams.NewProtocol(0) }, nil)
	require.NoError(t, err)
	r, _ := dial(t, "tcp", ln.Addr().String(), nil)
	require.Eventually(t, func() bool {
		c := server.Connections()
		return len(c) == 1 && c[0].State == "open"
	}, patience, 1e6)
	require.NoError(t, server.Shutdown(within(t)))
	wantData(t, "")(r.ReadAll(within(t)))
}

func TestNilHandler(t *testing.T) {
	_, err := streams.StartServer(context.Background(), "tcp", "127.0.0.1:0", nil, nil)
	require.Error(t, err)
}
