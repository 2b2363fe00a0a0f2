package strand_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// Every mistake in the arguments gets an error that says what is wrong, and
// leaves nothing open.

// A mistake is a call that has to fail, and a part of what it has to say.
type mistake struct {
	name string
	call func() error
	want string
}

func requireMistakes(t *testing.T, mistakes []mistake) {
	t.Helper()
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			before := openDescriptors(t)
			err := m.call()
			require.Error(t, err)
			require.ErrorContains(t, err, m.want)
			requireDescriptors(t, before, "nothing is left open")
		})
	}
}

var lowOverHigh = strand.TransportOptions{WriteBufferHigh: 10, WriteBufferLow: 20}

func nilRecorder() *recorder { return nil }

func nilProtocol() strand.Protocol { return nil }

// silentListener has a queue for connections, which nobody accepts: what a
// client leaves open is then all there is.
func silentListener(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

func TestCreateConnectionMistakes(t *testing.T) {
	there := silentListener(t)
	call := func(network, address string, opts *strand.ConnectOptions) func() error {
		return func() error {
			_, _, err := strand.CreateConnection(context.Background(), network, address, newRecorder, opts)
			return err
		}
	}
	requireMistakes(t, []mistake{
		{"unknown network", call("tcp9", there, nil), "tcp9"},
		{"datagram network", call("udp", there, nil), "udp"},
		{"no network", call("", there, nil), "unknown network"},
		{"empty address", call("tcp", "", nil), "missing address"},
		{"empty path", call("unix", "", nil), "missing address"},
		{"no port", call("tcp", "127.0.0.1", nil), "missing port"},
		{"bad port", call("tcp", "127.0.0.1:99999", nil), "99999"},
		{"bad local address", call("tcp", there, &strand.ConnectOptions{LocalAddr: "nonsense"}), "nonsense"},
		{"limits", call("tcp", there, &strand.ConnectOptions{TransportOptions: lowOverHigh}), "water mark"},
	})
}

func TestCreateConnectionFactoryMistakes(t *testing.T) {
	there := silentListener(t)
	ctx := context.Background()
	requireMistakes(t, []mistake{
		{"nil factory", func() error {
			_, _, err := strand.CreateConnection[*recorder](ctx, "tcp", there, nil, nil)
			return err
		}, "factory is nil"},
		{"factory returns nil", func() error {
			_, _, err := strand.CreateConnection(ctx, "tcp", there, nilProtocol, nil)
			return err
		}, "factory returned nil"},
		{"factory returns a typed nil", func() error {
			_, _, err := strand.CreateConnection(ctx, "tcp", there, nilRecorder, nil)
			return err
		}, "factory returned nil"},
		{"factory panics", func() (err error) {
			defer func() { err = fmt.Errorf("panic: %v", recover()) }()
			strand.CreateConnection(ctx, "tcp", there, func() *recorder { panic("no protocol") }, nil)
			return nil
		}, "panic: no protocol"},
	})
}

func TestAttachMistakes(t *testing.T) {
	ctx := context.Background()
	var typedNil *net.TCPConn
	requireMistakes(t, []mistake{
		{"nil conn", func() error {
			_, _, err := strand.Attach(ctx, nil, newRecorder, nil)
			return err
		}, "connection is nil"},
		{"typed nil conn", func() error {
			_, _, err := strand.Attach(ctx, typedNil, newRecorder, nil)
			return err
		}, "connection is nil"},
		{"zero TCPConn", func() error {
			_, _, err := strand.Attach(ctx, new(net.TCPConn), newRecorder, nil)
			return err
		}, "invalid argument"},
		{"zero UnixConn", func() error {
			_, _, err := strand.Attach(ctx, new(net.UnixConn), newRecorder, nil)
			return err
		}, "invalid argument"},
	})
}

// Attach that fails because of the factory or the options leaves the conn as it
// was, and the caller's.
func TestAttachMistakesKeepTheConn(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		call func(conn net.Conn) error
		want string
	}{
		{"nil factory", func(conn net.Conn) error {
			_, _, err := strand.Attach[*recorder](ctx, conn, nil, nil)
			return err
		}, "factory is nil"},
		{"factory returns nil", func(conn net.Conn) error {
			_, _, err := strand.Attach(ctx, conn, nilProtocol, nil)
			return err
		}, "factory returned nil"},
		{"factory returns a typed nil", func(conn net.Conn) error {
			_, _, err := strand.Attach(ctx, conn, nilRecorder, nil)
			return err
		}, "factory returned nil"},
		{"factory panics", func(conn net.Conn) (err error) {
			defer func() { err = fmt.Errorf("panic: %v", recover()) }()
			strand.Attach(ctx, conn, func() *recorder { panic("no protocol") }, nil)
			return nil
		}, "panic: no protocol"},
		{"limits", func(conn net.Conn) error {
			_, _, err := strand.Attach(ctx, conn, newRecorder, &strand.AttachOptions{TransportOptions: lowOverHigh})
			return err
		}, "water mark"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				ours, peer := k.pair(t)
				require.ErrorContains(t, tt.call(ours), tt.want)
				requireStillTheirs(t, ours, peer)
			})
		})
	}
}

func TestCreateServerMistakes(t *testing.T) {
	call := func(network, address string, opts *strand.ServerOptions) func() error {
		return func() error {
			_, err := strand.CreateServer(context.Background(), network, address, newRecorder, opts)
			return err
		}
	}
	const local = "127.0.0.1:0"
	requireMistakes(t, []mistake{
		{"unknown network", call("tcp9", local, nil), "tcp9"},
		{"datagram network", call("udp", local, nil), "udp"},
		{"empty address", call("tcp", "", nil), "missing address"},
		{"empty path", call("unix", "", nil), "missing address"},
		{"no port", call("tcp", "127.0.0.1", nil), "missing port"},
		{"a bad address behind a good one", call("tcp", local, &strand.ServerOptions{Addresses: []string{local, "nonsense"}}), "nonsense"},
		{"an empty address behind a good one", call("tcp", local, &strand.ServerOptions{Addresses: []string{""}}), "missing address"},
		{"limits", call("tcp", local, &strand.ServerOptions{TransportOptions: lowOverHigh}), "water mark"},
		{"nil factory", func() error {
			_, err := strand.CreateServer[*recorder](context.Background(), "tcp", local, nil, nil)
			return err
		}, "factory is nil"},
	})
}

func TestServeListenerMistakes(t *testing.T) {
	var typedNil *net.TCPListener
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	requireMistakes(t, []mistake{
		{"nil listener", func() error { _, err := strand.ServeListener(nil, newRecorder, nil); return err }, "listener is nil"},
		{"typed nil listener", func() error { _, err := strand.ServeListener(typedNil, newRecorder, nil); return err }, "listener is nil"},
		{"nil factory", func() error { _, err := strand.ServeListener[*recorder](ln, nil, nil); return err }, "factory is nil"},
		{"limits", func() error {
			_, err := strand.ServeListener(ln, newRecorder, &strand.ServerOptions{TransportOptions: lowOverHigh})
			return err
		}, "water mark"},
	})
	requireOpen(t, ln)
}

func TestServeConnMistakes(t *testing.T) {
	s := serveTCP(t, nil, nil)
	var typedNil *net.TCPConn
	requireMistakes(t, []mistake{
		{"nil conn", func() error { return s.ServeConn(nil) }, "connection is nil"},
		{"typed nil conn", func() error { return s.ServeConn(typedNil) }, "connection is nil"},
	})
	require.Empty(t, s.Connections(), "and no slot is taken")
}

// A server's factory that does not provide a protocol costs that connection,
// which is closed without a callback, and a record. The server goes on.
func TestServerFactoryMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		bad  func() strand.Protocol
		want string
	}{
		"nil":       {nilProtocol, "factory returned nil"},
		"typed nil": {func() strand.Protocol { return nilRecorder() }, "factory returned nil"},
		"panic":     {func() strand.Protocol { panic("no protocol") }, "no protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			var log logBuffer
			var calls atomic.Int32
			good := newRecorder()
			srv, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() strand.Protocol {
				if calls.Add(1) == 1 {
					return tt.bad()
				}
				return good
			}, logged(&log))
			require.NoError(t, err)
			endWithTest(t, srv)
			require.Empty(t, readAll(t, dial(t, srv.Addrs()[0])), "it is closed")
			client := dial(t, srv.Addrs()[0])
			good.awaitCall(t, "ConnectionMade")
			client.Close()
			require.NoError(t, good.awaitLost(t))
			require.NoError(t, srv.Shutdown(context.Background()), "no connection is left")
			require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), log.String())
			require.Contains(t, log.String(), tt.want)
		})
	}
}

// noBuffer is a BufferedProtocol without a buffer.
type noBuffer struct {
	*recorder
	buffer []byte
}

func (p noBuffer) GetBuffer(int) []byte { return p.buffer }
func (noBuffer) BufferUpdated(int)      {}

// GetBuffer that returns nothing ends the connection with an error that says so.
func TestGetBufferReturnsNothing(t *testing.T) {
	for name, buffer := range map[string][]byte{"nil": nil, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				ours, peer := k.pair(t)
				p := noBuffer{newRecorder(), buffer}
				opts := &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}
				_, _, err := strand.Attach(context.Background(), ours, func() noBuffer { return p }, opts)
				require.NoError(t, err)
				peer.Write([]byte("x")) // it may have been found out without data
				require.ErrorContains(t, p.awaitLost(t), "GetBuffer")
				_, err = ours.Write([]byte("x"))
				require.ErrorIs(t, err, net.ErrClosed)
			})
		})
	}
}
