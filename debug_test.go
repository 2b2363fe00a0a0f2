package strand_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// debugging returns options with Debug on.
func debugging(log *logBuffer) *strand.AttachOptions {
	o := &strand.AttachOptions{TransportOptions: logTo(log)}
	o.Debug = true
	return o
}

// slowly takes a connection over net.Pipe through its life with callbacks that
// each take d, and returns how many of them were logged as slow.
func slowly(t *testing.T, d time.Duration, opts func(*strand.AttachOptions)) (slow int, log string) {
	var b logBuffer
	synctest.Test(t, func(t *testing.T) {
		work := func() { time.Sleep(d) } // the callback's own time, not the test's
		ours, peer := net.Pipe()
		r := newRecorder()
		r.onMade = func(strand.Transport) { work() }
		r.onData = func([]byte) { work() }
		r.onEOF = func() bool { work(); return false }
		r.onLost = func(error) { work() }
		o := debugging(&b)
		if opts != nil {
			opts(o)
		}
		tr := attach(t, ours, r, o)
		tr.CallSoon(work)
		send(t, peer, "x")
		r.awaitData(t, 1)
		peer.Close()
		r.awaitLost(t)
	})
	return strings.Count(b.String(), "slow callback"), b.String()
}

// DB-01: in Debug every callback that takes 100 ms or more is logged, as a
// warning with its time and the connection.
func TestSlowCallbacks(t *testing.T) {
	slow, log := slowly(t, 100*time.Millisecond, nil)
	require.Equal(t, 5, slow, "made, a func, data, end of file, lost:\n%s", log)
	require.Contains(t, log, "level=WARN")
	require.Contains(t, log, "took=100ms")
	require.Contains(t, log, "transport.local=pipe")
}

// DB-01: the callbacks that need traffic of their own.
func TestSlowFlowCallbacks(t *testing.T) {
	var b logBuffer
	synctest.Test(t, func(t *testing.T) {
		work := func() { time.Sleep(time.Second) }
		ours, peer := net.Pipe()
		defer peer.Close()
		r := newRecorder()
		r.onPause, r.onResume = work, work
		o := debugging(&b)
		o.WriteBufferHigh = -1
		tr := attach(t, ours, r, o)
		mustWrite(t, tr, []byte("x"))
		r.awaitCall(t, "PauseWriting")
		readN(t, peer, 1)
		r.awaitCall(t, "ResumeWriting")
		tr.Close()
		r.awaitLost(t)
	})
	require.Equal(t, 2, strings.Count(b.String(), "slow callback"))
}

// DB-01: GetBuffer and BufferUpdated are callbacks too.
func TestSlowBufferedCallbacks(t *testing.T) {
	var b logBuffer
	synctest.Test(t, func(t *testing.T) {
		work := func() { time.Sleep(time.Second) }
		ours, peer := net.Pipe()
		defer peer.Close()
		r := newBufferedRecorder()
		r.onGet, r.onUpdated = work, func(int) { work() }
		tr, _, err := strand.Attach(context.Background(), ours, func() *bufferedRecorder { return r }, debugging(&b))
		require.NoError(t, err)
		send(t, peer, "x")
		r.awaitData(t, 1)
		tr.Close()
		r.awaitLost(t)
	})
	require.Equal(t, 2, strings.Count(b.String(), "slow callback"))
}

// DB-01: what is quicker is not logged, nothing is without Debug, and the
// threshold can be set and turned off.
func TestSlowCallbackThreshold(t *testing.T) {
	tests := []struct {
		name string
		took time.Duration
		opts func(*strand.AttachOptions)
		want int
	}{
		{"quick", 99 * time.Millisecond, nil, 0},
		{"no debug", time.Second, func(o *strand.AttachOptions) { o.Debug = false }, 0},
		{"lower", time.Millisecond, func(o *strand.AttachOptions) { o.SlowCallback = time.Millisecond }, 5},
		{"higher", time.Second, func(o *strand.AttachOptions) { o.SlowCallback = time.Minute }, 0},
		{"off", time.Second, func(o *strand.AttachOptions) { o.SlowCallback = -1 }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			slow, log := slowly(t, tt.took, tt.opts)
			require.Equal(t, tt.want, slow, log)
		})
	}
}

// DB-02: in Debug a server tells what is open and where it came from.
func TestConnectionsInDebug(t *testing.T) {
	for _, debug := range []bool{true, false} {
		r := newRecorder()
		s, peer := served(t, r, &strand.ServerOptions{TransportOptions: strand.TransportOptions{Debug: debug, Logger: quiet}})
		r.awaitCall(t, "ConnectionMade")
		infos := s.Connections()
		require.Len(t, infos, 1)
		require.Equal(t, peer.LocalAddr(), infos[0].RemoteAddr)
		require.Equal(t, "open", infos[0].State)
		require.Equal(t, debug, strings.Contains(infos[0].Created, "strand"))
	}
}

// DB-04, RD-08: an error of the network is no business of the log, but in
// Debug it is there, as a DEBUG record.
func TestSilentErrorsInDebug(t *testing.T) {
	for _, debug := range []bool{true, false} {
		var log logBuffer
		o := debugging(&log)
		o.Debug = debug
		r := newRecorder()
		_, peer := connected(t, kinds[0], r, o)
		reset(t, peer)
		require.Error(t, r.awaitLost(t))
		if !debug {
			require.Empty(t, log.String())
			continue
		}
		require.Equal(t, 1, strings.Count(log.String(), "connection failed"))
		require.Contains(t, log.String(), "level=DEBUG")
		require.Contains(t, log.String(), "connection reset by peer")
	}
}

// A healthy life logs nothing, in Debug neither.
func TestHealthyLifeIsSilent(t *testing.T) {
	for _, debug := range []bool{true, false} {
		eachKind(t, func(t *testing.T, k kind) {
			var log logBuffer
			o := debugging(&log)
			o.Debug = debug
			o.SlowCallback = time.Hour // the machine may be busy
			r := newRecorder()
			_, peer := connected(t, k, r, o)
			send(t, peer, "x")
			closeWrite(t, peer)
			require.NoError(t, r.awaitLost(t))
			require.Empty(t, log.String())
		})
	}
}

// DB-05: a connection that comes to nothing because of the factory is logged
// in any case, for nobody else can be told.
func TestFailedIncomingConnectionIsLogged(t *testing.T) {
	for _, debug := range []bool{true, false} {
		var log logBuffer
		o := &strand.ServerOptions{TransportOptions: logTo(&log)}
		o.Debug = debug
		s, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() *recorder { return nil }, o)
		require.NoError(t, err)
		peer := dial(t, s.Addrs()[0])
		require.Empty(t, readAll(t, peer))
		require.Contains(t, log.String(), "level=ERROR")
		require.Contains(t, log.String(), "transport.remote="+peer.LocalAddr().String())
		require.NoError(t, s.Shutdown(context.Background()))
	}
}

// DB-06: a Write on a dead connection says so itself; the log stays empty,
// however often.
func TestWritesToDeadConnectionsAreNotLogged(t *testing.T) {
	var log logBuffer
	o := debugging(&log)
	o.SlowCallback = time.Hour // the machine may be busy
	r := newRecorder()
	tr, _ := connected(t, kinds[0], r, o)
	tr.Abort()
	require.NoError(t, r.awaitLost(t))
	for range 10 {
		_, err := tr.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
	}
	require.Empty(t, log.String())
}

// In Debug a protocol that keeps the slice finds it overwritten.
func TestRetainedDataIsPoisoned(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		var log logBuffer
		var kept []byte
		r := newRecorder()
		r.onData = func(data []byte) { kept = data }
		tr, peer := connected(t, k, r, debugging(&log))
		send(t, peer, "secret")
		r.awaitData(t, 6)
		tr.Abort()
		r.awaitLost(t)
		require.Equal(t, []byte{0xDB, 0xDB, 0xDB, 0xDB, 0xDB, 0xDB}, kept)
		require.Equal(t, "secret", string(r.received()), "a copy is a copy")
	})
}

// EX-13: without a Logger the default one is used, that of the moment when the
// connection is made.
func TestDefaultLogger(t *testing.T) {
	var log logBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	r := newRecorder()
	r.onData = func([]byte) { panic(errBoom) }
	_, peer := connected(t, kinds[0], r, nil)
	send(t, peer, "x")
	require.Error(t, r.awaitLost(t))
	require.Contains(t, log.String(), "boom")
}
