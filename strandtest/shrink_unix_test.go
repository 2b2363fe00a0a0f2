//go:build unix

package strandtest

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// tcpBuffer is smallBuffer for TCP, where a window that is smaller than the
// segments of the loopback interface makes the sender wait for its timers.
const tcpBuffer = 64 << 10

// shrinkSocket makes the kernel's buffers of a transport small.
func shrinkSocket(t testing.TB, tr strand.Transport) {
	raw, ok := tr.ExtraInfo(strand.ExtraSocket).(syscall.RawConn)
	if !ok {
		return // closed already
	}
	raw.Control(func(fd uintptr) {
		require.NoError(t, syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, tcpBuffer))
		require.NoError(t, syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, tcpBuffer))
	})
}
