//go:build unix

package strand_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gostrand/strand"
)

// broadcastOption is SO_BROADCAST of a transport's socket.
func broadcastOption(t testing.TB, tr strand.DatagramTransport) (value int) {
	t.Helper()
	raw := tr.ExtraInfo(strand.ExtraSocket).(syscall.RawConn)
	require.NoError(t, raw.Control(func(fd uintptr) {
		v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST)
		require.NoError(t, err)
		value = min(v, 1)
	}))
	return value
}
