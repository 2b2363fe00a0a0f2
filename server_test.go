package strand_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// A testServer is a Server whose protocols are recorders.
type testServer struct {
	*strand.Server
	made chan *recorder // every recorder, once its factory has run
}

// factoryOf returns a factory of recorders, each of which setup may change.
func factoryOf(made chan *recorder, setup func(r *recorder)) func() *recorder {
	return func() *recorder {
		r := newRecorder()
		if setup != nil {
			setup(r)
		}
		made <- r
		return r
	}
}

// serve starts a server, which ends with the test.
func serve(t testing.TB, network, address string, opts *strand.ServerOptions, setup func(r *recorder)) *testServer {
	t.Helper()
	made := make(chan *recorder, 100)
	s, err := strand.CreateServer(context.Background(), network, address, factoryOf(made, setup), opts)
	require.NoError(t, err)
	endWithTest(t, s)
	return &testServer{s, made}
}

// serveTCP serves at an address whose ports nobody takes when it is closed.
func serveTCP(t testing.TB, opts *strand.ServerOptions, setup func(r *recorder)) *testServer {
	t.Helper()
	return serve(t, "tcp", ownHost+":0", opts, setup)
}

// serveStill is a server over a Unix socket, which takes nothing more once it is
// full, as long as nobody reads. (TCP grows its buffers.)
func serveStill(t testing.TB) *testServer {
	t.Helper()
	return serve(t, "unix", filepath.Join(shortTempDir(t), "s"), nil, nil)
}

func endWithTest(t testing.TB, s *strand.Server) {
	t.Cleanup(func() {
		s.Close()
		s.AbortClients()
		waitFor(t, s)
	})
}

// waitFor waits until the server has finished.
func waitFor(t testing.TB, s *strand.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, s.Wait(ctx))
}

// over is a context that has ended.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func (s *testServer) addr() net.Addr { return s.Addrs()[0] }

// connect is a client of the server, and the recorder on the other side.
func (s *testServer) connect(t testing.TB) (client net.Conn, r *recorder) {
	t.Helper()
	client = dial(t, s.addr())
	r = await(t, "a protocol", s.made)
	r.awaitCall(t, "ConnectionMade")
	return client, r
}

func dial(t testing.TB, addr net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// requireServes checks that a new client is served.
func requireServes(t testing.TB, s *testServer) {
	t.Helper()
	client, r := s.connect(t)
	_, err := client.Write([]byte("ping"))
	require.NoError(t, err)
	r.awaitData(t, 4)
	require.NoError(t, client.Close())
	r.awaitCall(t, "ConnectionLost")
}

func requireRefusesConnections(t testing.TB, addr net.Addr) {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	if err == nil {
		c.Close()
	}
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

// SV-01: a server is bound, listening and accepting when CreateServer returns.
func TestCreateServer(t *testing.T) {
	s := serveTCP(t, nil, nil)
	require.True(t, s.IsServing())
	require.Len(t, s.Addrs(), 1)
	require.NotZero(t, s.addr().(*net.TCPAddr).Port)
	requireServes(t, s)
	require.NoError(t, s.StartServing(), "SV-02: once more does nothing")
	requireServes(t, s)
}

// SV-02: a delayed server has its address and refuses connections.
func TestDelayStart(t *testing.T) {
	skipWithoutDelayStart(t)
	s := serveTCP(t, &strand.ServerOptions{DelayStart: true}, nil)
	require.False(t, s.IsServing())
	requireRefusesConnections(t, s.addr())
	addr := s.addr().String()
	require.NoError(t, s.StartServing())
	require.NoError(t, s.StartServing())
	require.True(t, s.IsServing())
	require.Equal(t, addr, s.addr().String())
	requireServes(t, s)
}

func skipWithoutDelayStart(t testing.TB) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("DelayStart is not supported on this system")
	}
}

// SV-02: after Close a server cannot start, whether it ever did or not.
func TestStartServingAfterClose(t *testing.T) {
	for _, delay := range []bool{false, true} {
		t.Run(fmt.Sprint("DelayStart ", delay), func(t *testing.T) {
			if delay {
				skipWithoutDelayStart(t)
			}
			s := serveTCP(t, &strand.ServerOptions{DelayStart: delay}, nil)
			addr := s.addr()
			require.NoError(t, s.Close())
			require.ErrorIs(t, s.StartServing(), net.ErrClosed)
			require.ErrorIs(t, s.ServeForever(context.Background()), net.ErrClosed, "SV-07")
			requireRefusesConnections(t, addr)
		})
	}
}

// SV-03: Close frees the address at once; connections live on.
func TestServerClose(t *testing.T) {
	s := serveTCP(t, nil, nil)
	addr := s.addr()
	client, r := s.connect(t)
	for range 3 {
		require.NoError(t, s.Close())
		require.Empty(t, s.Addrs())
		require.False(t, s.IsServing())
		requireRefusesConnections(t, addr)
	}
	_, err := client.Write([]byte("still here"))
	require.NoError(t, err)
	r.awaitData(t, 10)
	mustWrite(t, r.transport(), []byte("me too"))
	require.Equal(t, "me too", string(readN(t, client, 6)))
	require.Len(t, s.Connections(), 1)
}

// SV-03: connections that nobody serves yet end with the listener.
func TestServerCloseResetsWhatWaits(t *testing.T) {
	s := serveTCP(t, &strand.ServerOptions{MaxConnections: 1}, nil)
	s.connect(t)
	var waiting []net.Conn
	for range 3 {
		waiting = append(waiting, dial(t, s.addr()))
	}
	s.Close()
	for _, c := range waiting {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	require.Empty(t, s.made, "no protocol was made for them")
}

// closingListener calls a func while it accepts.
type closingListener struct {
	net.Listener
	hook func()
}

func (l *closingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.hook()
	}
	return conn, err
}

// SV-03, SV-04: a connection that is just being accepted when the server is
// closed is dropped; otherwise Shutdown would wait for one that it has never
// asked to end.
func TestCloseDuringAccept(t *testing.T) {
	fake := newFakeListener()
	ln := &closingListener{Listener: fake}
	s := serveFake(t, ln, nil, nil)
	ln.hook = func() { s.Close() }
	ours, peer := net.Pipe()
	require.NoError(t, peer.SetReadDeadline(time.Now().Add(patience))) // once the other end is closed it fails
	fake.push(ours, nil)
	_, err := peer.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	waitFor(t, s.Server)
	require.Empty(t, s.made)
}

// closingConn calls a func when its deadlines are cleared, which happens just
// before it becomes one of the server's connections.
type closingConn struct {
	net.Conn
	hook func()
}

func (c closingConn) SetDeadline(t time.Time) error {
	c.hook()
	return c.Conn.SetDeadline(t)
}

// SV-03: the same of ServeConn, which then leaves the conn alone.
func TestCloseDuringServeConn(t *testing.T) {
	s := serveTCP(t, nil, nil)
	ours, peer := net.Pipe()
	defer peer.Close()
	require.ErrorIs(t, s.ServeConn(closingConn{ours, func() { s.Close() }}), net.ErrClosed)
	waitFor(t, s.Server)
	require.Empty(t, s.made)
	require.NoError(t, ours.Close())
}

// A conn that panics when its deadlines are cleared panics for the caller, which
// may well live on, as a handler of net/http does: the server lives on, too.
func TestPanicDuringServeConn(t *testing.T) {
	s := serveTCP(t, &strand.ServerOptions{MaxConnections: 1}, nil)
	ours, _ := net.Pipe()
	for range 2 {
		require.PanicsWithValue(t, "odd", func() { s.ServeConn(closingConn{ours, func() { panic("odd") }}) })
	}
	requireServes(t, s)
	require.NoError(t, s.Shutdown(context.Background()))
}

// SV-04: Wait waits while the server is open, connections or not.
func TestWaitOfAnOpenServer(t *testing.T) {
	s := serveTCP(t, nil, nil)
	require.ErrorIs(t, s.Wait(over()), context.Canceled)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(io.ErrNoProgress)
	require.ErrorIs(t, s.Wait(ctx), io.ErrNoProgress, "the context's cause")
}

// SV-04: Wait waits for the last ConnectionLost, in whatever order close and
// ends come, and any number of times.
func TestWait(t *testing.T) {
	for _, closeFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("Close first ", closeFirst), func(t *testing.T) {
			release := make(chan struct{})
			s := serveTCP(t, nil, func(r *recorder) {
				r.onLost = func(error) { <-release }
			})
			waits := make(chan error, 3)
			for range cap(waits) {
				go func() { waits <- s.Wait(context.Background()) }()
			}
			client, r := s.connect(t)
			if closeFirst {
				s.Close()
			}
			client.Close()
			r.awaitCall(t, "ConnectionLost")
			s.Close()
			require.ErrorIs(t, s.Wait(over()), context.Canceled, "ConnectionLost is still running")
			require.Empty(t, waits)
			close(release)
			for range cap(waits) {
				require.NoError(t, await(t, "a waiter", waits))
			}
			require.NoError(t, s.Wait(over()), "at once afterwards")
		})
	}
}

// SV-08: what asyncio's "async with" does is two calls.
func TestCloseAndWaitWithoutConnections(t *testing.T) {
	s := serveTCP(t, nil, nil)
	require.NoError(t, s.Close())
	waitFor(t, s.Server)
}

// SV-05: a connection belongs to the server from before the factory until after
// ConnectionLost, and Connections tells how far it is.
func TestConnections(t *testing.T) {
	var s *testServer
	created := make(chan struct{})
	states := make(chan []string, 10)
	note := func() {
		<-created
		var list []string
		for _, c := range s.Connections() {
			list = append(list, c.State)
		}
		states <- list
	}
	opts := &strand.ServerOptions{TransportOptions: strand.TransportOptions{Debug: true, Logger: quiet}}
	s = serveTCP(t, opts, func(r *recorder) {
		note()
		r.onMade = func(strand.Transport) { note() }
		r.onLost = func(error) { note() }
	})
	close(created)
	client, r := s.connect(t)
	infos := s.Connections()
	require.Len(t, infos, 1)
	require.Equal(t, client.LocalAddr().String(), infos[0].RemoteAddr.String())
	require.Equal(t, client.RemoteAddr().String(), infos[0].LocalAddr.String())
	require.Contains(t, infos[0].Created, "goroutine", "in Debug")
	client.Close()
	r.awaitCall(t, "ConnectionLost")
	s.Close()
	waitFor(t, s.Server)
	require.Empty(t, s.Connections())
	require.Equal(t, []string{"opening"}, <-states)
	require.Equal(t, []string{"open"}, <-states)
	require.Equal(t, []string{"lost"}, <-states)
}

// SV-05: Connections shows output that waits, and connections that are closing.
func TestConnectionsBuffered(t *testing.T) {
	s := serveStill(t)
	_, r := s.connect(t)
	tr := r.transport()
	mustWrite(t, tr, numbered(plenty))
	tr.Close()
	infos := s.Connections()
	require.Len(t, infos, 1)
	require.Positive(t, infos[0].Buffered)
	require.Equal(t, "closing", infos[0].State)
	require.Empty(t, infos[0].Created, "only in Debug")
	require.GreaterOrEqual(t, infos[0].Age, time.Duration(0))
}

// SV-06: CloseClients closes gracefully, AbortClients at once; the server goes
// on either way.
func TestCloseAndAbortClients(t *testing.T) {
	for _, tt := range []struct {
		name    string
		end     func(*strand.Server)
		flushes bool
	}{
		{"CloseClients", (*strand.Server).CloseClients, true},
		{"AbortClients", (*strand.Server).AbortClients, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serveStill(t)
			var clients []net.Conn
			var recs []*recorder
			for range 3 {
				c, r := s.connect(t)
				mustWrite(t, r.transport(), numbered(plenty))
				clients, recs = append(clients, c), append(recs, r)
			}
			tt.end(s.Server)
			for i, c := range clients {
				got := len(readAll(t, c))
				require.Equal(t, tt.flushes, got == plenty, "%d of %d bytes", got, plenty)
				require.NoError(t, recs[i].awaitLost(t))
			}
			require.True(t, s.IsServing())
			requireServes(t, s)
		})
	}
}

// serveForever runs ServeForever and returns what it returns.
func serveForever(s *testServer, ctx context.Context) <-chan error {
	result := make(chan error, 1)
	go func() { result <- s.ServeForever(ctx) }()
	return result
}

// SV-07: ServeForever starts a delayed server. When its context ends it closes
// the server and the connections, and waits for them.
func TestServeForever(t *testing.T) {
	skipWithoutDelayStart(t)
	s := serveTCP(t, &strand.ServerOptions{DelayStart: true}, nil)
	addr := s.addr()
	ctx, cancel := context.WithCancelCause(context.Background())
	result := serveForever(s, ctx)
	for !s.IsServing() {
		runtime.Gosched()
	}
	client, r := s.connect(t)
	cancel(io.ErrNoProgress)
	require.ErrorIs(t, await(t, "ServeForever's end", result), io.ErrNoProgress)
	require.Contains(t, r.trace(), "ConnectionLost nil", "its connections are gone")
	requireRefusesConnections(t, addr)
	require.Empty(t, readAll(t, client))
}

// SV-07: Close ends it with net.ErrClosed, without ending the connections.
func TestServeForeverUntilClose(t *testing.T) {
	s := serveTCP(t, nil, nil)
	result := serveForever(s, context.Background())
	_, r := s.connect(t)
	s.Close()
	require.ErrorIs(t, await(t, "ServeForever's end", result), net.ErrClosed)
	require.False(t, r.transport().IsClosing())
}

// SV-07: one call at a time.
func TestServeForeverTwice(t *testing.T) {
	s := serveTCP(t, nil, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first, second := serveForever(s, ctx), serveForever(s, ctx)
	var err error
	select { // one of them is refused
	case err = <-first:
	case err = <-second:
	case <-time.After(patience):
		t.Fatal("both are running")
	}
	require.ErrorContains(t, err, "already running")
	require.True(t, s.IsServing(), "the other goes on")
}

// ServeForever grants the connections ShutdownTimeout.
func TestServeForeverShutdownTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newFakeListener()
		s := serveFake(t, ln, &strand.ServerOptions{ShutdownTimeout: 7 * time.Second}, func(r *recorder) {
			r.onMade = func(tr strand.Transport) { tr.Write([]byte("nobody reads this")) }
		})
		ln.pushPipe(t)
		r := <-s.made
		ctx, cancel := context.WithCancel(context.Background())
		result := serveForever(s, ctx)
		synctest.Wait()
		start := time.Now()
		cancel()
		err := <-result
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, context.DeadlineExceeded, "the caller's context had no deadline")
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var timeout *strand.TimeoutError
		require.ErrorAs(t, err, &timeout)
		require.Equal(t, strand.TimeoutError{Op: "shutdown", After: 7 * time.Second}, *timeout)
		require.Equal(t, 7*time.Second, time.Since(start))
		require.NoError(t, r.awaitLost(t), "aborted, not failed")
	})
}

// SV-09: every connection of a burst has a protocol of its own.
func TestManyConnections(t *testing.T) {
	const n = 50
	s := serveTCP(t, nil, nil)
	for range n {
		dial(t, s.addr())
	}
	var seen []*recorder
	for range n {
		r := await(t, "a protocol", s.made)
		r.awaitCall(t, "ConnectionMade")
		require.False(t, slices.Contains(seen, r))
		seen = append(seen, r)
	}
	require.Len(t, s.Connections(), n)
}

// fakeListener accepts what a test pushes.
type fakeListener struct {
	results chan fakeAccept
	closed  chan struct{}

	mu    sync.Mutex
	calls []time.Time // when Accept was called
}

type fakeAccept struct {
	conn net.Conn
	err  error
}

func newFakeListener() *fakeListener {
	return &fakeListener{results: make(chan fakeAccept, 100), closed: make(chan struct{})}
}

func (l *fakeListener) push(conn net.Conn, err error) { l.results <- fakeAccept{conn, err} }

// pushPipe has one end of a net.Pipe accepted, and returns the other.
func (l *fakeListener) pushPipe(t testing.TB) net.Conn {
	ours, peer := net.Pipe()
	t.Cleanup(func() { peer.Close() })
	l.push(ours, nil)
	return peer
}

func (l *fakeListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	l.calls = append(l.calls, time.Now())
	l.mu.Unlock()
	select {
	case r := <-l.results:
		return r.conn, r.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *fakeListener) Addr() net.Addr { return &net.UnixAddr{Name: "fake", Net: "fake"} }

// gaps are the times between the calls of Accept.
func (l *fakeListener) gaps() (gaps []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.calls[1:] {
		gaps = append(gaps, l.calls[i+1].Sub(l.calls[i]))
	}
	return gaps
}

// serveFake serves a fake listener, and ends with the test.
func serveFake(t testing.TB, ln net.Listener, opts *strand.ServerOptions, setup func(r *recorder)) *testServer {
	t.Helper()
	made := make(chan *recorder, 100)
	s, err := strand.ServeListener(ln, factoryOf(made, setup), opts)
	require.NoError(t, err)
	endWithTest(t, s)
	return &testServer{s, made}
}

func acceptError(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept", errno)}
}

func logged(log *logBuffer) *strand.ServerOptions {
	return &strand.ServerOptions{TransportOptions: logTo(log)}
}

// SV-10: a client that changed its mind is none of the server's business.
func TestAcceptOfAbortedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		ln := newFakeListener()
		for range 3 {
			ln.push(nil, acceptError(syscall.ECONNABORTED))
		}
		ln.pushPipe(t)
		s := serveFake(t, ln, logged(&log), nil)
		<-s.made
		synctest.Wait()
		require.Equal(t, make([]time.Duration, 4), ln.gaps(), "no pause")
		require.Empty(t, log.String())
	})
}

// SV-11: without descriptors accepting pauses for 5 ms, doubling to 1 s, with one
// record for each pause; the connections that waited are then served, and a
// success begins anew.
func TestAcceptBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		ln := newFakeListener()
		for range 11 {
			ln.push(nil, acceptError(syscall.EMFILE))
		}
		ln.pushPipe(t)
		ln.push(nil, acceptError(syscall.ENFILE))
		ln.pushPipe(t)
		s := serveFake(t, ln, logged(&log), nil)
		<-s.made
		<-s.made
		synctest.Wait()
		ms := time.Millisecond
		require.Equal(t, []time.Duration{
			5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, 1000 * ms, 1000 * ms, 1000 * ms,
			0, 5 * ms, 0,
		}, ln.gaps())
		require.Equal(t, 12, strings.Count(log.String(), "level=ERROR"), "once per pause")
		require.Contains(t, log.String(), syscall.EMFILE.Error())
	})
}

// SV-12: Close during the pause ends it, and nothing is tried or logged later.
func TestCloseDuringAcceptBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		ln := newFakeListener()
		for range 9 {
			ln.push(nil, acceptError(syscall.EMFILE))
		}
		s := serveFake(t, ln, logged(&log), nil)
		time.Sleep(1280 * time.Millisecond) // the bubble's time: 5 ms into the first long pause
		before := log.String()
		start := time.Now()
		s.Close()
		require.NoError(t, s.Wait(context.Background()))
		require.Zero(t, time.Since(start))
		time.Sleep(time.Minute)
		require.Len(t, ln.gaps(), 8)
		require.Equal(t, before, log.String())
	})
}

// SV-13: any other error is reported, and serving goes on.
func TestAcceptOtherError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		ln := newFakeListener()
		ln.push(nil, errors.New("something odd"))
		ln.pushPipe(t)
		s := serveFake(t, ln, logged(&log), nil)
		<-s.made
		require.Equal(t, 1, strings.Count(log.String(), "something odd"))
		require.True(t, s.IsServing())
	})
}

// SV-14: the server may be closed in a factory and in ConnectionMade; the
// connection lives on like every other.
func TestServerCloseInCallbacks(t *testing.T) {
	for _, inFactory := range []bool{true, false} {
		t.Run(fmt.Sprint("in the factory ", inFactory), func(t *testing.T) {
			var s *testServer
			created := make(chan struct{})
			s = serveTCP(t, nil, func(r *recorder) {
				<-created
				if inFactory {
					s.Close()
				}
				r.onMade = func(strand.Transport) { s.Close() }
			})
			addr := s.addr()
			close(created)
			client := dial(t, addr)
			r := await(t, "a protocol", s.made)
			_, err := client.Write([]byte("x"))
			require.NoError(t, err)
			r.awaitData(t, 1)
			requireRefusesConnections(t, addr)
		})
	}
}

// SV-15: several addresses, each with a port of its own; the same one twice is
// bound once.
func TestSeveralAddresses(t *testing.T) {
	skipWithoutLoopbacks(t)
	opts := &strand.ServerOptions{Addresses: []string{"127.0.0.2:0", "127.0.0.1:0", "localhost:0"}}
	s := serve(t, "tcp", "127.0.0.1:0", opts, nil)
	var hosts []string
	for _, a := range s.Addrs() {
		tcp := a.(*net.TCPAddr)
		require.NotZero(t, tcp.Port)
		if tcp.IP.To4() != nil { // localhost may have an IPv6 address as well
			hosts = append(hosts, tcp.IP.String())
		}
		client := dial(t, a)
		await(t, "a protocol", s.made)
		client.Close()
	}
	require.Equal(t, []string{"127.0.0.1", "127.0.0.2"}, hosts)
}

// SV-15: an empty host means every interface, of every family.
func TestEmptyHost(t *testing.T) {
	s := serve(t, "tcp", ":0", nil, nil)
	port := s.addr().(*net.TCPAddr).Port
	for _, host := range []string{"127.0.0.1", "::1"} {
		if host == "::1" {
			skipWithoutIPv6(t)
		}
		dial(t, &net.TCPAddr{IP: net.ParseIP(host), Port: port})
		await(t, "a protocol", s.made)
	}
}

func skipWithoutIPv6(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here")
	}
	ln.Close()
}

// skipWithoutLoopbacks skips where 127.0.0.1 is the only address of its network.
func skipWithoutLoopbacks(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("only one loopback address here")
	}
	ln.Close()
}

// SV-15: a literal address is of its own family only, so that both wildcards can
// be bound to the same port.
func TestWildcardsOfOneFamily(t *testing.T) {
	skipWithoutIPv6(t)
	for _, delay := range []bool{false, true} {
		t.Run(fmt.Sprint("DelayStart ", delay), func(t *testing.T) {
			six, four := serveBothWildcards(t, delay)
			port := six.addr().(*net.TCPAddr).Port
			require.NoError(t, six.StartServing())
			require.NoError(t, four.StartServing())
			dial(t, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
			await(t, "the IPv4 server's protocol", four.made)
			dial(t, &net.TCPAddr{IP: net.IPv6loopback, Port: port})
			await(t, "the IPv6 server's protocol", six.made)
		})
	}
}

// serveBothWildcards binds [::] and 0.0.0.0 to one port, which must be found
// first: a port that is free in one family may be taken in the other.
func serveBothWildcards(t testing.TB, delay bool) (six, four *testServer) {
	t.Helper()
	opts := &strand.ServerOptions{DelayStart: delay}
	for range 20 {
		six = serve(t, "tcp", "[::]:0", opts, nil)
		address := fmt.Sprintf("0.0.0.0:%d", six.addr().(*net.TCPAddr).Port)
		ln, err := net.Listen("tcp4", address)
		if err != nil {
			continue
		}
		ln.Close()
		return six, serve(t, "tcp", address, opts, nil)
	}
	t.Fatal("no port is free in both families")
	return nil, nil
}

// SV-16: an address can be bound again at once, although connections of it are
// in TIME_WAIT.
func TestReuseAddress(t *testing.T) {
	s := serveTCP(t, nil, nil)
	addr := s.addr()
	client, r := s.connect(t)
	r.transport().Close() // the side that closes first has TIME_WAIT
	require.Empty(t, readAll(t, client))
	client.Close()
	s.Close()
	waitFor(t, s.Server)
	for _, delay := range []bool{false, true} {
		if delay {
			skipWithoutDelayStart(t)
		}
		again := serve(t, "tcp", addr.String(), &strand.ServerOptions{DelayStart: delay}, nil)
		require.NoError(t, again.StartServing())
		requireServes(t, again)
		again.Close()
	}
}

// SV-16: ReusePort lets two servers have one address; without it they cannot.
func TestReusePort(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SO_REUSEPORT here")
	}
	for _, delay := range []bool{false, true} {
		t.Run(fmt.Sprint("DelayStart ", delay), func(t *testing.T) {
			opts := &strand.ServerOptions{ReusePort: true, DelayStart: delay}
			s := serveTCP(t, opts, nil)
			second := serve(t, "tcp", s.addr().String(), opts, nil)
			require.NoError(t, s.StartServing())
			require.NoError(t, second.StartServing())
			require.Equal(t, s.addr().String(), second.addr().String())
			_, err := strand.CreateServer(context.Background(), "tcp", s.addr().String(), newRecorder, nil)
			require.ErrorIs(t, err, syscall.EADDRINUSE)
		})
	}
}

// SV-17: an address in use fails with the system's error and the address, and
// whatever was bound before it is freed.
func TestBindFailure(t *testing.T) {
	taken := serveTCP(t, nil, nil)
	for _, delay := range []bool{false, true} {
		t.Run(fmt.Sprint("DelayStart ", delay), func(t *testing.T) {
			if delay {
				skipWithoutDelayStart(t)
			}
			before := openDescriptors(t)
			opts := &strand.ServerOptions{Addresses: []string{taken.addr().String()}, DelayStart: delay}
			s, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", newRecorder, opts)
			require.ErrorIs(t, err, syscall.EADDRINUSE)
			require.ErrorContains(t, err, taken.addr().String())
			require.Nil(t, s)
			requireDescriptors(t, before)
		})
	}
}

// SV-17: of several addresses one may not exist here; but not all of them.
func TestAddressNotAvailable(t *testing.T) {
	const elsewhere, elsewhere2 = "198.51.100.1:0", "203.0.113.1:0" // documentation addresses
	if ln, err := net.Listen("tcp", elsewhere); err == nil {
		ln.Close()
		t.Skip("this system binds addresses that it does not have")
	}
	for _, delay := range []bool{false, true} {
		t.Run(fmt.Sprint("DelayStart ", delay), func(t *testing.T) {
			if delay {
				skipWithoutDelayStart(t)
			}
			s := serve(t, "tcp", elsewhere, &strand.ServerOptions{Addresses: []string{"127.0.0.1:0"}, DelayStart: delay}, nil)
			require.Len(t, s.Addrs(), 1)
			before := openDescriptors(t)
			_, err := strand.CreateServer(context.Background(), "tcp", elsewhere, newRecorder,
				&strand.ServerOptions{Addresses: []string{elsewhere2}, DelayStart: delay})
			require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
			require.ErrorContains(t, err, "198.51.100.1")
			require.ErrorContains(t, err, "203.0.113.1", "every address is named")
			requireDescriptors(t, before)
		})
	}
}

// SV-18: options that only mean something to CreateServer are refused by
// ServeListener, and the listener stays the caller's.
func TestServeListenerOptions(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	for _, opts := range []strand.ServerOptions{
		{DelayStart: true}, {ReusePort: true}, {Backlog: 1}, {Addresses: []string{"127.0.0.1:0"}},
		{KeepSocketFile: true}, {KeepAlive: net.KeepAliveConfig{Enable: true}},
	} {
		s, err := strand.ServeListener(ln, newRecorder, &opts)
		require.ErrorContains(t, err, "strand: bad option: ")
		require.Nil(t, s)
	}
	requireOpen(t, ln)
}

// requireOpen checks that a listener still accepts.
func requireOpen(t testing.TB, ln net.Listener) {
	t.Helper()
	dial(t, ln.Addr())
	c, err := ln.Accept()
	require.NoError(t, err)
	c.Close()
}

// SV-19: ServeListener takes the listener over and closes it.
func TestServeListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	made := make(chan *recorder, 10)
	srv, err := strand.ServeListener(ln, factoryOf(made, nil), nil)
	require.NoError(t, err)
	endWithTest(t, srv)
	s := &testServer{srv, made}
	require.Equal(t, ln.Addr(), s.addr())
	requireServes(t, s)
	s.Close()
	_, err = ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// SV-20: a connection that was accepted elsewhere becomes a transport of no
// server.
func TestAttachAcceptedConnection(t *testing.T) {
	s := serveTCP(t, nil, nil)
	r := newRecorder()
	ours, peer := tcpPair(t) // ours is the accepted end
	attach(t, ours, r, nil)
	_, err := peer.Write([]byte("hello"))
	require.NoError(t, err)
	r.awaitData(t, 5)
	require.Empty(t, s.Connections())
	s.Close()
	waitFor(t, s.Server)
}

// SV-21: a server that nobody holds goes on accepting.
func TestDroppedServerGoesOn(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	made := make(chan *recorder, 1)
	_, err = strand.ServeListener(ln, factoryOf(made, nil), nil)
	require.NoError(t, err)
	runtime.GC()
	runtime.GC()
	client := dial(t, ln.Addr())
	r := await(t, "a protocol", made)
	client.Close()
	require.NoError(t, r.awaitLost(t))
	require.NoError(t, ln.Close()) // its accept loop ends
}

// MaxConnections: accepting stops at the limit, with one connection waiting,
// and goes on when one is gone.
func TestMaxConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newFakeListener()
		s := serveFake(t, ln, &strand.ServerOptions{MaxConnections: 2}, nil)
		for range 4 {
			ln.pushPipe(t)
		}
		synctest.Wait()
		require.Len(t, s.made, 2)
		require.Len(t, s.Connections(), 2)
		require.Len(t, ln.results, 1, "one has been accepted and waits")
		r := <-s.made
		r.transport().Close()
		synctest.Wait()
		require.Len(t, s.made, 2, "one more was served")
		require.Len(t, ln.results, 0)
		require.Len(t, s.Connections(), 2)
	})
}

// MaxConnections: ConnectionLost has to return before the slot is free.
func TestMaxConnectionsCountsUntilLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newFakeListener()
		release := make(chan struct{})
		s := serveFake(t, ln, &strand.ServerOptions{MaxConnections: 1}, func(r *recorder) {
			r.onLost = func(error) { <-release }
		})
		ln.pushPipe(t).Close()
		ln.pushPipe(t)
		synctest.Wait()
		require.Len(t, s.made, 1)
		close(release)
		synctest.Wait()
		require.Len(t, s.made, 2)
	})
}

// MaxConnections: a connection without a protocol gives its slot back.
func TestMaxConnectionsAfterBadFactory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newFakeListener()
		bad := 3
		opts := &strand.ServerOptions{MaxConnections: 1, TransportOptions: strand.TransportOptions{Logger: quiet}}
		s := serveFake(t, ln, opts, func(*recorder) {
			if bad--; bad >= 0 {
				panic("no protocol today")
			}
		})
		for range 4 {
			ln.pushPipe(t)
		}
		synctest.Wait()
		require.Len(t, s.made, 1)
	})
}

// Close ends the wait for a slot.
func TestCloseAtMaxConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newFakeListener()
		s := serveFake(t, ln, &strand.ServerOptions{MaxConnections: 1}, nil)
		ln.pushPipe(t)
		waiting := ln.pushPipe(t)
		synctest.Wait()
		s.Close()
		_, err := waiting.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.Len(t, s.Connections(), 1)
	})
}

// ServeConn makes a connection from elsewhere one of the server's.
func TestServeConn(t *testing.T) {
	s := serveTCP(t, nil, nil)
	ours, peer := tcpPair(t)
	require.NoError(t, s.ServeConn(ours))
	r := await(t, "a protocol", s.made)
	_, err := peer.Write([]byte("x"))
	require.NoError(t, err)
	r.awaitData(t, 1)
	require.Len(t, s.Connections(), 1)
	require.NoError(t, s.Shutdown(context.Background()))
	require.Contains(t, r.trace(), "ConnectionLost nil")
}

// ServeConn says at once when the server is full or closed, and leaves the
// connection alone.
func TestServeConnRefuses(t *testing.T) {
	s := serveTCP(t, &strand.ServerOptions{MaxConnections: 1}, nil)
	s.connect(t)
	ours, peer := tcpPair(t)
	require.ErrorIs(t, s.ServeConn(ours), strand.ErrTooManyConnections)
	s.Close()
	require.ErrorIs(t, s.ServeConn(ours), net.ErrClosed)
	_, err := peer.Write([]byte("x"))
	require.NoError(t, err)
	require.Equal(t, "x", string(readN(t, ours, 1)), "it is still the caller's")
}

// asked is a protocol that Shutdown asks.
type asked struct {
	*recorder
	request func(tr strand.Transport)
}

func (a asked) ShutdownRequested() {
	defer a.enter("ShutdownRequested")()
	a.request(a.transport())
}

// Shutdown asks protocols that can be asked, in turn, and waits until they have
// finished what they are doing.
func TestShutdownRequester(t *testing.T) {
	made := make(chan asked, 1)
	requested := make(chan struct{})
	srv, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() asked {
		a := asked{newRecorder(), func(strand.Transport) { close(requested) }}
		a.onData = func([]byte) { // the answer to the last request
			mustWrite(t, a.transport(), []byte("bye"))
			a.transport().Close()
		}
		made <- a
		return a
	}, nil)
	require.NoError(t, err)
	endWithTest(t, srv)
	client := dial(t, srv.Addrs()[0])
	a := await(t, "a protocol", made)
	a.awaitCall(t, "ConnectionMade")
	done := make(chan error, 1)
	go func() { done <- srv.Shutdown(context.Background()) }()
	await(t, "the request", requested)
	require.Empty(t, done, "it waits")
	_, err = client.Write([]byte("last"))
	require.NoError(t, err)
	require.Equal(t, "bye", string(readAll(t, client)))
	require.NoError(t, await(t, "Shutdown's end", done))
	a.wantCalls(t, "asked, not closed", "ConnectionMade", "ShutdownRequested", "DataReceived 4", "ConnectionLost nil")
}

// SP-01: a protocol that is installed before the request's turn has come gets it
// instead of the old one; if it cannot be asked, the connection is closed.
func TestShutdownRequesterIsReplaced(t *testing.T) {
	for _, able := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			next := newRecorder()
			var successor strand.Protocol = next
			if able {
				successor = asked{next, func(strand.Transport) { next.transport().Close() }}
			}
			release := make(chan struct{})
			first := asked{newRecorder(), func(strand.Transport) { t.Error("the old protocol was asked") }}
			first.onMade = func(tr strand.Transport) {
				next.ConnectionMade(tr)
				<-release
				tr.SetProtocol(successor)
			}
			ln := newFakeListener()
			srv, err := strand.ServeListener(ln, func() asked { return first }, nil)
			require.NoError(t, err)
			ln.pushPipe(t)
			synctest.Wait()
			done := make(chan error, 1)
			go func() { done <- srv.Shutdown(context.Background()) }()
			synctest.Wait()
			close(release)
			require.NoError(t, <-done)
			require.Equal(t, able, slices.Contains(next.trace(), "ShutdownRequested"))
			require.Contains(t, next.trace(), "ConnectionLost nil")
		})
	}
}

// Shutdown closes all others gracefully.
func TestShutdownFlushes(t *testing.T) {
	s := serveTCP(t, nil, nil)
	client, r := s.connect(t)
	written := fill(t, r.transport())
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	require.Len(t, readAll(t, client), written)
	require.NoError(t, await(t, "Shutdown's end", done))
	require.NoError(t, s.Shutdown(over()), "a second call finds everything gone")
}

// When Shutdown's context ends, what is left is aborted, and Shutdown returns
// the context's cause even if a callback is blocked.
func TestShutdownGivesUp(t *testing.T) {
	release := make(chan struct{})
	s := serveTCP(t, nil, func(r *recorder) {
		r.onData = func([]byte) { <-release }
	})
	blocked, r := s.connect(t)
	_, err := blocked.Write([]byte("x"))
	require.NoError(t, err)
	r.awaitData(t, 1)
	_, stuck := s.connect(t)
	fill(t, stuck.transport())
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(io.ErrNoProgress)
	require.ErrorIs(t, s.Shutdown(ctx), io.ErrNoProgress)
	require.NoError(t, stuck.awaitLost(t))
	require.True(t, r.transport().IsClosing())
	close(release)
	require.NoError(t, r.awaitLost(t))
}

// Law 1: a protocol whose connection is not made yet is not asked, its
// connection just ends.
func TestShutdownBeforeConnectionMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inFactory := make(chan struct{})
		a := asked{newRecorder(), func(strand.Transport) {}}
		ln := newFakeListener()
		srv, err := strand.ServeListener(ln, func() asked {
			<-inFactory
			return a
		}, nil)
		require.NoError(t, err)
		peer := ln.pushPipe(t)
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- srv.Shutdown(context.Background()) }()
		synctest.Wait()
		close(inFactory)
		require.NoError(t, <-done)
		require.Empty(t, a.trace())
		_, err = peer.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
}

// slowListener has a Close that can be held up.
type slowListener struct {
	*fakeListener
	closing chan struct{} // closed when Close is called
	release chan struct{} // closed to let it return
}

func newSlowListener() slowListener {
	return slowListener{newFakeListener(), make(chan struct{}), make(chan struct{})}
}

func (l slowListener) Close() error {
	close(l.closing)
	<-l.release
	return l.fakeListener.Close()
}

// A listener of the caller's whose Close takes its time holds up the call of
// Close, and nothing else. Wait waits for it.
func TestCloseOfListenerThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newSlowListener()
		s := serveFake(t, ln, nil, nil)
		peer := ln.pushPipe(t)
		r := <-s.made
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		<-ln.closing
		require.Len(t, s.Connections(), 1)
		require.False(t, s.IsServing())
		require.Empty(t, s.Addrs())
		require.NoError(t, s.Close(), "the second call has nothing to do")
		peer.Close()
		<-r.transport().Done()
		require.Equal(t, context.Canceled, s.Wait(over()), "SV-04: not closed yet")
		require.Empty(t, closed)
		close(ln.release)
		require.NoError(t, <-closed)
		require.NoError(t, s.Wait(context.Background()))
	})
}

// Shutdown does not wait for such a Close longer than its context allows, and
// ends the connections meanwhile.
func TestShutdownOfListenerThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newSlowListener()
		s := serveFake(t, ln, nil, nil)
		ln.pushPipe(t)
		r := <-s.made
		synctest.Wait()
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, io.ErrNoProgress)
		defer cancel()
		require.Equal(t, io.ErrNoProgress, s.Shutdown(ctx))
		require.NoError(t, r.awaitLost(t))
		close(ln.release)
		require.NoError(t, s.Wait(context.Background()))
	})
}

// A listener that somebody else closes is logged, and the server is closed: it
// says so, ServeForever returns why, and Wait waits for the connections only.
func TestListenerClosedBySomebodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		ln := newFakeListener()
		lost := errors.New("the disk is full")
		s := serveFake(t, ln, logged(&log), nil)
		forever := serveForever(s, context.Background())
		peer := ln.pushPipe(t)
		r := <-s.made
		synctest.Wait()
		ln.push(nil, fmt.Errorf("%w: %w", net.ErrClosed, lost))
		err := <-forever
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, err, lost)
		require.False(t, s.IsServing())
		require.Empty(t, s.Addrs())
		require.ErrorIs(t, s.StartServing(), lost)
		require.ErrorIs(t, s.ServeForever(context.Background()), lost)
		require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"))
		require.Contains(t, log.String(), "the disk is full")
		require.Contains(t, log.String(), "address=fake")
		require.False(t, r.transport().IsClosing(), "SV-03: connections go on")
		<-ln.closed
		peer.Close()
		require.NoError(t, s.Wait(context.Background()))
	})
}

// A real listener is closed behind the server's back.
func TestServedListenerIsClosed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := serveFake(t, ln, &strand.ServerOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}, nil)
	require.NoError(t, ln.Close())
	waitFor(t, s.Server)
	require.False(t, s.IsServing())
	require.ErrorIs(t, s.ServeForever(context.Background()), net.ErrClosed)
	require.NoError(t, s.Close())
	require.NoError(t, s.Shutdown(context.Background()))
}
