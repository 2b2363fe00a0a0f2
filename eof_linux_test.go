package strand_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A segment that carries both data and FIN is one event for the poller and two
// for the protocol: the second is found only by reading again.
func TestDataAndFINInOneSegment(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[2]} {
		t.Run(k.name, func(t *testing.T) {
			for range rounds / 10 {
				r := newRecorder()
				_, peer := connected(t, k, r, nil)
				cork(t, peer) // what is written now leaves with the FIN
				send(t, peer, "last")
				closeWrite(t, peer)
				require.NoError(t, r.awaitLost(t))
				r.wantCalls(t, "both", "ConnectionMade", "DataReceived 4", "EOFReceived", "ConnectionLost nil")
			}
		})
	}
}

func cork(t *testing.T, peer net.Conn) {
	raw, err := peer.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var failed error
	require.NoError(t, raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, 1)
	}))
	require.NoError(t, failed)
}
