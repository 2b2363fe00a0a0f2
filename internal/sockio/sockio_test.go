//go:build unix

package sockio

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pair is two connected TCP ends.
func pair(t testing.TB) (ours, peer *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	d, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	a, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		a.Close()
		d.Close()
	})
	return a.(*net.TCPConn), d.(*net.TCPConn)
}

// within runs f on the descriptor.
func within(t testing.TB, rc syscall.RawConn, f func(fd uintptr)) {
	t.Helper()
	require.NoError(t, rc.Control(f))
}

// recvReady waits for readiness and receives once.
func recvReady(t testing.TB, rc syscall.RawConn, k Kind, p []byte) (n int, err error) {
	t.Helper()
	require.NoError(t, rc.Read(func(fd uintptr) bool {
		n, _, err = Recv(k, fd, p)
		return err != syscall.EAGAIN
	}))
	return n, err
}

// Only the very types of package net are driven by their descriptor: something
// that embeds one may carry other bytes than its Read returns.
func TestOf(t *testing.T) {
	tcp, _ := pair(t)
	rc, kind := Of(tcp)
	require.NotNil(t, rc)
	require.NotEqual(t, None, kind)

	rc, kind = Of(struct{ *net.TCPConn }{tcp})
	require.Nil(t, rc)
	require.Equal(t, None, kind)

	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	_, kind = Of(a)
	require.Equal(t, None, kind)
}

// A Unix datagram socket is a *net.UnixConn as well, and no stream.
func TestOfUnix(t *testing.T) {
	dir := t.TempDir()
	addr := &net.UnixAddr{Name: filepath.Join(dir, "d"), Net: "unixgram"}
	dgram, err := net.ListenUnixgram("unixgram", addr)
	require.NoError(t, err)
	defer dgram.Close()
	_, kind := Of(dgram)
	require.Equal(t, None, kind)

	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	defer ln.Close()
	stream, err := net.Dial("unix", ln.Addr().String())
	require.NoError(t, err)
	defer stream.Close()
	_, kind = Of(stream)
	require.NotEqual(t, None, kind)
}

// RD-07: nothing there is EAGAIN, never a wait.
func TestRecv(t *testing.T) {
	ours, peer := pair(t)
	rc, kind := Of(ours)
	p := make([]byte, 100)
	within(t, rc, func(fd uintptr) {
		n, more, err := Recv(kind, fd, p)
		require.Equal(t, 0, n)
		require.True(t, more)
		require.Equal(t, syscall.EAGAIN, err)
	})

	_, err := peer.Write([]byte("hello"))
	require.NoError(t, err)
	n, err := recvReady(t, rc, kind, p)
	require.NoError(t, err)
	require.Equal(t, "hello", string(p[:n]))

	require.NoError(t, peer.CloseWrite())
	n, err = recvReady(t, rc, kind, p)
	require.NoError(t, err, "the end of the stream is no error")
	require.Zero(t, n)
}

func TestRecvError(t *testing.T) {
	ours, peer := pair(t)
	rc, kind := Of(ours)
	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close())
	n, err := recvReady(t, rc, kind, make([]byte, 10))
	require.Zero(t, n)
	require.Equal(t, syscall.ECONNRESET, err)
}

// Send takes what fits and then says EAGAIN (WR-01).
func TestSend(t *testing.T) {
	ours, peer := pair(t)
	rc, kind := Of(ours)
	sent := fillSocket(t, rc, func(fd uintptr, p []byte) (int, error) { return Send(kind, fd, p) })
	requireArrives(t, ours, peer, sent)
}

// Sendv goes the same way, whatever the pieces are.
func TestSendv(t *testing.T) {
	ours, peer := pair(t)
	rc, kind := Of(ours)
	sent := fillSocket(t, rc, func(fd uintptr, p []byte) (int, error) {
		return Sendv(kind, fd, [][]byte{p[:1], nil, p[1:10], {}, p[10:]})
	})
	requireArrives(t, ours, peer, sent)
}

// fillSocket sends blocks until the kernel takes no more and returns all it took.
func fillSocket(t testing.TB, rc syscall.RawConn, send func(fd uintptr, p []byte) (int, error)) (sent []byte) {
	t.Helper()
	block := make([]byte, 100_000)
	for i := range block {
		block[i] = byte(i * 7 % 251)
	}
	within(t, rc, func(fd uintptr) {
		for {
			n, err := send(fd, block)
			if err != nil {
				require.Equal(t, syscall.EAGAIN, err)
				require.Zero(t, n)
				return
			}
			require.Positive(t, n)
			sent = append(sent, block[:n]...)
		}
	})
	return sent
}

func requireArrives(t testing.TB, ours, peer *net.TCPConn, sent []byte) {
	t.Helper()
	require.NoError(t, ours.CloseWrite())
	require.NoError(t, peer.SetReadDeadline(time.Now().Add(20*time.Second)))
	got, err := io.ReadAll(peer)
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got), "sent %d bytes, got %d", len(sent), len(got))
}

// More pieces than one system call takes: a prefix goes, in order.
func TestSendvManyPieces(t *testing.T) {
	ours, peer := pair(t)
	rc, kind := Of(ours)
	var bufs [][]byte
	for i := range 1000 {
		bufs = append(bufs, []byte{byte(i), byte(i >> 8)})
	}
	all := bytes.Join(bufs, nil)
	within(t, rc, func(fd uintptr) {
		for sent := 0; sent < len(all); {
			require.Zero(t, sent%2, "so few bytes always fit: a call ends between pieces")
			n, err := Sendv(kind, fd, bufs[sent/2:])
			require.NoError(t, err)
			require.Positive(t, n)
			sent += n
		}
	})
	requireArrives(t, ours, peer, all)
}

func TestSendvNothing(t *testing.T) {
	ours, _ := pair(t)
	rc, kind := Of(ours)
	within(t, rc, func(fd uintptr) {
		for _, bufs := range [][][]byte{nil, {}, {nil, {}}} {
			n, err := Sendv(kind, fd, bufs)
			require.NoError(t, err)
			require.Zero(t, n)
		}
	})
}

// A peer that is gone is an error of the call and no SIGPIPE for the process.
func TestSendError(t *testing.T) {
	for _, tt := range []struct {
		name string
		send func(k Kind, fd uintptr) (int, error)
	}{
		{"Send", func(k Kind, fd uintptr) (int, error) { return Send(k, fd, []byte("x")) }},
		{"Sendv", func(k Kind, fd uintptr) (int, error) { return Sendv(k, fd, [][]byte{[]byte("x"), []byte("y")}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ours, _ := pair(t)
			rc, kind := Of(ours)
			require.NoError(t, ours.CloseWrite())
			within(t, rc, func(fd uintptr) {
				n, err := tt.send(kind, fd)
				require.Zero(t, n)
				require.Equal(t, syscall.EPIPE, err)
			})
		})
	}
}

// The File kind is for what is no socket.
func TestFileKind(t *testing.T) {
	var fds [2]int
	require.NoError(t, syscall.Pipe(fds[:]))
	defer syscall.Close(fds[0])
	defer syscall.Close(fds[1])
	require.NoError(t, syscall.SetNonblock(fds[0], true))
	r, w := uintptr(fds[0]), uintptr(fds[1])
	p := make([]byte, 10)

	_, _, err := Recv(File, r, p)
	require.Equal(t, syscall.EAGAIN, err)
	n, err := Send(File, w, []byte("ab"))
	require.NoError(t, err)
	require.Equal(t, 2, n)
	n, err = Sendv(File, w, [][]byte{[]byte("c"), []byte("de")})
	require.NoError(t, err)
	require.Equal(t, 3, n)
	n, _, err = Recv(File, r, p)
	require.NoError(t, err)
	require.Equal(t, "abcde", string(p[:n]))
}
