//go:build unix

package strand_test

import (
	"context"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// noDelay asks the kernel, through the descriptor that ExtraSocket gives out.
func noDelay(t *testing.T, tr strand.Transport) int {
	t.Helper()
	value := -1
	var failed error
	raw := tr.ExtraInfo(strand.ExtraSocket).(syscall.RawConn)
	require.NoError(t, raw.Control(func(fd uintptr) {
		value, failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
	}))
	require.NoError(t, failed)
	return value
}

// delaying is a listener whose conns gather small writes.
type delaying struct{ net.Listener }

func (l delaying) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetNoDelay(false)
	}
	return conn, err
}

// BT-14: TCP_NODELAY is on for connections that were made, accepted, and
// attached, though it was off. XI-02: getsockopt works.
func TestNoDelay(t *testing.T) {
	accepted := newRecorder()
	s, _ := served(t, accepted, nil)
	accepted.awaitCall(t, "ConnectionMade")
	require.NotZero(t, noDelay(t, accepted.transport()), "accepted")

	made := newRecorder()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	tr, _, err := strand.CreateConnection(context.Background(), "tcp", ln.Addr().String(), func() *recorder { return made }, nil)
	require.NoError(t, err)
	require.NotZero(t, noDelay(t, tr), "made")
	tr.Abort()
	made.awaitLost(t)

	ours, _ := tcpPair(t)
	require.NoError(t, ours.(*net.TCPConn).SetNoDelay(false))
	require.NotZero(t, noDelay(t, attach(t, ours, newRecorder(), nil)), "attached")
	require.NotEmpty(t, s.Addrs())

	theirs := newRecorder()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	wrapped, err := strand.ServeListener(delaying{inner}, func() *recorder { return theirs }, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		wrapped.AbortClients()
		wrapped.Close()
		waitFor(t, wrapped)
	})
	peer, err := net.Dial("tcp", inner.Addr().String())
	require.NoError(t, err)
	defer peer.Close()
	theirs.awaitCall(t, "ConnectionMade")
	require.NotZero(t, noDelay(t, theirs.transport()), "accepted by a caller's listener")
}

// BT-05: on a socket too nothing is read before ConnectionMade has returned:
// inside it the kernel still has the bytes.
func TestMadeLeavesDataInTheKernel(t *testing.T) {
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			ours, peer := k.pair(t)
			send(t, peer, "early")
			r := newRecorder()
			waiting := 0
			r.onMade = func(tr strand.Transport) { waiting = peek(tr) }
			attach(t, ours, r, nil)
			require.Equal(t, 5, waiting)
			r.awaitData(t, 5)
		})
	}
}

// RD-02: so do they while reading is paused.
func TestPauseLeavesDataInTheKernel(t *testing.T) {
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			r := newRecorder()
			tr, peer := connected(t, k, r, nil)
			whenIdle(t, tr)
			tr.PauseReading()
			whenIdle(t, tr)
			send(t, peer, "x") // the reader may have been about to receive this one
			send(t, peer, "held")
			settle(t)
			require.GreaterOrEqual(t, peek(tr), 4)
			tr.ResumeReading()
			r.awaitData(t, 5)
		})
	}
}

// peek counts the bytes that the kernel holds for us.
func peek(tr strand.Transport) int {
	n := -1
	tr.ExtraInfo(strand.ExtraSocket).(syscall.RawConn).Control(func(fd uintptr) {
		n, _, _ = syscall.Recvfrom(int(fd), make([]byte, 100), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return n
}
