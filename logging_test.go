package strand_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// askingHandler is a slog.Handler that asks the library something for each
// record, as one may that adds the number of connections.
type askingHandler struct {
	*slog.TextHandler
	logBuffer

	mu      sync.Mutex
	ask     func()
	records chan string // the messages
}

// newAsking returns options whose logger asks.
func newAsking() (*askingHandler, strand.TransportOptions) {
	h := &askingHandler{records: make(chan string, 100)}
	h.TextHandler = slog.NewTextHandler(&h.logBuffer, &slog.HandlerOptions{Level: slog.LevelDebug})
	return h, strand.TransportOptions{Debug: true, Logger: slog.New(h)}
}

func (h *askingHandler) set(ask func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ask = ask
}

func (h *askingHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	ask := h.ask
	h.mu.Unlock()
	if ask != nil {
		ask()
	}
	defer func() { h.records <- r.Message }()
	return h.TextHandler.Handle(ctx, r)
}

// awaitRecord waits for a record with a message.
func (h *askingHandler) awaitRecord(t testing.TB, message string) {
	t.Helper()
	for !strings.Contains(await(t, message, h.records), message) {
	}
}

// wholeConn is a conn that cannot be half closed.
type wholeConn struct{ net.Conn }

func (wholeConn) CloseWrite() error { return errors.New("not this one") }

// No lock of the library is held while a slog.Handler runs.
func TestLoggingUnderNoLock(t *testing.T) {
	t.Run("half close", func(t *testing.T) {
		h, opts := newAsking()
		ours, _ := tcpPair(t)
		tr := attach(t, wholeConn{ours}, newRecorder(), &strand.AttachOptions{TransportOptions: opts})
		h.set(func() { tr.WriteBufferSize() })
		require.NoError(t, tr.WriteEOF())
		h.awaitRecord(t, "half close failed")
		require.Contains(t, h.String(), "not this one")
	})
	t.Run("handshake", func(t *testing.T) {
		h, opts := newAsking()
		s := serveTCP(t, &strand.ServerOptions{TransportOptions: opts, TLS: serverTLS()}, nil)
		h.set(func() { s.Connections() })
		peer := dial(t, s.addr())
		send(t, peer, "this is not TLS")
		h.awaitRecord(t, "TLS handshake failed")
	})
	t.Run("listener", func(t *testing.T) {
		h, opts := newAsking()
		ln := brokenListener{newFakeListener()}
		s := serveFake(t, ln, &strand.ServerOptions{TransportOptions: opts}, nil)
		h.set(func() { s.Connections() })
		s.Close()
		h.awaitRecord(t, "closing a listener failed")
	})
	t.Run("callback", func(t *testing.T) {
		h, opts := newAsking()
		r := newRecorder()
		r.onData = func([]byte) { panic("odd") }
		s, peer := served(t, r, &strand.ServerOptions{TransportOptions: opts})
		h.set(func() { s.Connections() })
		send(t, peer, "x")
		h.awaitRecord(t, "callback panicked")
	})
}

// brokenListener does not close properly.
type brokenListener struct{ *fakeListener }

func (l brokenListener) Close() error {
	l.fakeListener.Close()
	return errors.New("not this one")
}

// muteConn is a net.PacketConn that cannot send.
type muteConn struct{ net.PacketConn }

func (muteConn) WriteTo([]byte, net.Addr) (int, error) { return 0, errors.New("no route") }

// Errors that pile up behind a callback that blocks are dropped at some point.
// How many is logged, once, and under no lock.
func TestDatagramDroppedErrors(t *testing.T) {
	h, opts := newAsking()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	told := 0
	r := newDatagramRecorder()
	r.onError = func(error) { told++ }
	tr, _, err := strand.AttachPacket(context.Background(), muteConn{pc}, func() *datagramRecorder { return r }, &strand.DatagramOptions{TransportOptions: opts})
	require.NoError(t, err)
	h.set(func() { tr.WriteBufferSize() })
	blocked, release := make(chan struct{}), make(chan struct{})
	require.True(t, tr.CallSoon(func() {
		close(blocked)
		<-release
	}))
	await(t, "the callback", blocked)
	for range 1024 + 3 {
		require.NoError(t, tr.SendTo([]byte("x"), pc.LocalAddr()))
	}
	for tr.WriteBufferSize() > 0 {
		runtime.Gosched()
	}
	close(release)
	h.awaitRecord(t, "errors were dropped")
	require.Contains(t, h.String(), "count=3")
	tr.Close()
	await(t, "the end", tr.Done())
	require.Equal(t, 1024, told)
}
