//go:build unix

package strand

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// heard is a DatagramProtocol that notes what it hears.
type heard struct {
	NopDatagramProtocol
	calls      []string
	onDatagram func()
}

func (h *heard) DatagramReceived(data []byte, _ net.Addr) {
	h.calls = append(h.calls, string(data))
	h.onDatagram()
}

func (h *heard) ErrorReceived(err error) { h.calls = append(h.calls, err.Error()) }

// DG-10: an error that one system call met behind datagrams, which is what some
// systems do, is told behind them, and is held back by a pause as they are.
func TestErrorBehindABatch(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer pc.Close()
	_, err = pc.WriteTo([]byte("datagram"), pc.LocalAddr())
	require.NoError(t, err)
	cfg, err := new(TransportOptions).resolve()
	require.NoError(t, err)
	h := new(heard)
	e := newEndpoint(pc, h, cfg) // not started: the test is the reader
	h.onDatagram = e.PauseReading
	e.d.enter()
	defer e.d.leave()
	received := e.raw.Read(func(fd uintptr) bool {
		if !e.receiveBatch(fd) {
			return false
		}
		e.behind = syscall.ECONNREFUSED
		require.True(t, e.receive(fd))
		require.Equal(t, []string{"datagram"}, h.calls)
		require.True(t, e.gate.Load(), "the loop does not call receive now")
		require.True(t, e.receive(fd), "there may be more")
		return true
	})
	require.NoError(t, received)
	require.Len(t, h.calls, 2)
	require.Contains(t, h.calls[1], syscall.ECONNREFUSED.Error())
	require.Nil(t, e.batch)
}
