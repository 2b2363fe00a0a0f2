package streams_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/internal/testkit"
	"github.com/gostrand/strand/strandtest"
	"github.com/gostrand/strand/streams"
)

const patience = testkit.Patience

// within returns a context for calls that have to come to an end.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// cancelled is a context for calls that must not have to wait.
var cancelled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// await waits for a channel to be closed or to have something.
func await[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	return testkit.Await(t, what, ch)
}

// outcome is what a call returned.
type outcome struct {
	data []byte
	err  error
}

// async runs a call that waits.
func async(call func() ([]byte, error)) <-chan outcome {
	ch := make(chan outcome, 1)
	go func() {
		data, err := call()
		ch <- outcome{data, err}
	}()
	return ch
}

// asyncErr is async for calls that return only an error.
func asyncErr(call func() error) <-chan outcome {
	return async(func() ([]byte, error) { return nil, call() })
}

// A kind is a way to connect two ends.
type kind struct {
	name string
	pair func(t testing.TB) (ours, peer net.Conn)
}

var (
	tcp   = kind{"tcp", func(t testing.TB) (ours, peer net.Conn) { return testkit.SocketPair(t, "tcp", "127.0.0.1:0") }}
	unix  = kind{"unix", func(t testing.TB) (ours, peer net.Conn) { return testkit.SocketPair(t, "unix", socketPath(t)) }}
	pipe  = kind{"pipe", func(testing.TB) (ours, peer net.Conn) { return net.Pipe() }} // for synctest
	kinds = []kind{tcp, unix, pipe}
)

// eachKind runs a test over every kind of connection.
func eachKind(t *testing.T, test func(t *testing.T, k kind)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

// socketPath is a path short enough for a Unix socket.
func socketPath(t testing.TB) string { return filepath.Join(testkit.ShortTempDir(t), "s") }

// stream is a stream under test and the other end of its connection. It is the
// protocol, too, and notes what the transport tells it.
type stream struct {
	*streams.Protocol
	*streams.Reader
	*streams.Writer
	testing.TB
	peer net.Conn

	mu       sync.Mutex
	received int           // bytes, including what the test has put there
	want     int           // bytes that the peer has sent
	eof      bool          // EOFReceived was called
	lost     bool          // ConnectionLost was called
	paused   bool          // between PauseWriting and ResumeWriting
	changed  chan struct{} // closed and replaced with every callback
}

// open returns a stream with the limit, 0 for the default. The connection is
// aborted with the test.
func open(t testing.TB, k kind, limit int) *stream {
	t.Helper()
	ours, peer := k.pair(t)
	p := streams.NewProtocol(limit)
	s := &stream{Protocol: p, Reader: p.Reader(), Writer: p.Writer(), TB: t, peer: peer, changed: make(chan struct{})}
	_, _, err := strand.Attach(context.Background(), ours, func() *stream { return s }, nil)
	require.NoError(t, err)
	t.Cleanup(s.end)
	return s
}

func (s *stream) end() {
	s.peer.Close()
	s.Transport().Abort()
	await(s, "the end after Abort", s.Transport().Done())
}

func (s *stream) note(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) DataReceived(data []byte) {
	s.Protocol.DataReceived(data)
	s.note(func() { s.received += len(data) })
}

func (s *stream) EOFReceived() bool {
	keepOpen := s.Protocol.EOFReceived()
	s.note(func() { s.eof = true })
	return keepOpen
}

func (s *stream) PauseWriting() {
	s.Protocol.PauseWriting()
	s.note(func() { s.paused = true })
}

func (s *stream) ResumeWriting() {
	s.Protocol.ResumeWriting()
	s.note(func() { s.paused = false })
}

func (s *stream) ConnectionLost(err error) {
	s.Protocol.ConnectionLost(err)
	s.note(func() { s.lost = true })
}

// await waits until cond, which is called under the lock, is true.
func (s *stream) await(why string, cond func() bool) {
	s.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		ok, changed := cond(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			s.Fatalf("never happened: %s", why)
		}
	}
}

// send has the peer send chunks.
func (s *stream) send(chunks ...string) {
	s.Helper()
	for _, c := range chunks {
		_, err := io.WriteString(s.peer, c)
		require.NoError(s, err)
		s.want += len(c)
	}
}

// feed has the peer send chunks, each of which has arrived before the next is
// sent. While the transport is paused it does the transport's work instead, as
// if the chunk had come before the pause.
func (s *stream) feed(chunks ...string) {
	s.Helper()
	for _, c := range chunks {
		if !s.Transport().IsReading() {
			s.want += len(c)
			s.DataReceived([]byte(c))
			continue
		}
		s.send(c)
		s.await("bytes arrive", func() bool { return s.received >= s.want })
	}
}

// feedEOF has the peer send the end of the stream, and waits until it is here.
// While the transport is paused it does as feed does.
func (s *stream) feedEOF() {
	s.Helper()
	if !s.Transport().IsReading() {
		s.EOFReceived()
	} else if c, ok := s.peer.(interface{ CloseWrite() error }); ok {
		require.NoError(s, c.CloseWrite())
	} else {
		require.NoError(s, s.peer.Close())
	}
	s.await("EOFReceived", func() bool { return s.eof })
}

// reset has the peer reset the connection, and waits until that is noticed.
func (s *stream) reset() {
	s.Helper()
	require.NoError(s, s.peer.(*net.TCPConn).SetLinger(0))
	require.NoError(s, s.peer.Close())
	s.awaitLost()
}

func (s *stream) awaitLost() {
	s.Helper()
	s.await("ConnectionLost", func() bool { return s.lost })
}

// wantRest takes what the Reader holds, and compares it.
func (s *stream) wantRest(want string) {
	s.Helper()
	require.Equal(s, len(want), s.Buffered())
	if want != "" {
		got, err := s.ReadSome(cancelled, len(want)+1)
		require.NoError(s, err)
		require.Equal(s, want, string(got))
	}
}

// wantData compares the outcome of a read.
func wantData(t testing.TB, want string) func(got []byte, err error) {
	return func(got []byte, err error) {
		t.Helper()
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// fill writes more than any kernel takes, and waits until the transport has
// asked for no more.
func (s *stream) fill() {
	s.Helper()
	_, err := s.Write(make([]byte, 16<<20))
	require.NoError(s, err)
	s.await("PauseWriting", func() bool { return s.paused })
}

// fake is the transport of a Protocol whose callbacks the test calls.
type fake struct {
	strand.Transport
	paused  bool
	pauses  int
	secure  bool
	onClose func()
}

func (f *fake) PauseReading()  { f.paused, f.pauses = true, f.pauses+1 }
func (f *fake) ResumeReading() { f.paused = false }
func (f *fake) Close() error   { f.onClose(); return nil }

func (f *fake) ExtraInfo(name string) any {
	if f.secure && name == strand.ExtraSSLContext {
		return new(tls.Config)
	}
	return nil
}

// start starts a server on the loopback interface, and returns its address. It
// is shut down with the test.
func start(t testing.TB, handler func(*streams.Reader, *streams.Writer), opts *streams.ServerOptions) (*strand.Server, string) {
	t.Helper()
	server := startOn(t, "tcp", "127.0.0.1:0", handler, opts)
	return server, server.Addrs()[0].String()
}

func startOn(t testing.TB, network, address string, handler func(*streams.Reader, *streams.Writer), opts *streams.ServerOptions) *strand.Server {
	t.Helper()
	server, err := streams.StartServer(context.Background(), network, address, handler, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Shutdown(within(t))) })
	return server
}

// dial opens a stream, which is closed with the test.
func dial(t testing.TB, network, address string, opts *streams.Options) (*streams.Reader, *streams.Writer) {
	t.Helper()
	r, w, err := streams.OpenConnection(within(t), network, address, opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		w.Transport().Abort()
		await(t, "the end after Abort", w.Transport().Done())
	})
	return r, w
}

// serverTLS leaves the side to the stream.
func serverTLS() *strand.TLSOptions {
	_, server := strandtest.TLSOptions()
	server.ServerSide = false
	return server
}

// clientTLS leaves the name to the stream.
func clientTLS() *strand.TLSOptions {
	client, _ := strandtest.TLSOptions()
	client.ServerName = ""
	return client
}
