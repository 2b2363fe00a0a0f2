//go:build unix

package strand_test

import (
	"net"
	"os"
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

// DG-05: a peer without a name is the connected one, whether it is named as nil or
// as RemoteAddr does.
func TestDatagramUnnamedPeer(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	require.NoError(t, err)
	var ends [2]net.PacketConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		ends[i], err = net.FilePacketConn(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		defer ends[i].Close()
	}
	r := newDatagramRecorder()
	tr := attachPacket(t, ends[0], unixKind, r, nil)
	require.NoError(t, tr.SendTo([]byte("1"), nil))
	require.NoError(t, tr.SendTo([]byte("2"), tr.RemoteAddr()))
	require.Error(t, tr.SendTo([]byte("3"), &net.UnixAddr{Name: unixPath(t), Net: "unixgram"}))
	for _, want := range []string{"1", "2"} {
		got, _ := readPacket(t, ends[1])
		require.Equal(t, want, got)
	}
}
