//go:build unix

package strand_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gostrand/strand"
)

// awaitReady waits until the kernel has something to say about a descriptor,
// without reading it: events is unix.POLLIN, or 0 for a hang-up.
func awaitReady(t testing.TB, raw any, events int16) {
	t.Helper()
	require.NoError(t, raw.(syscall.RawConn).Control(func(fd uintptr) {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(patience.Milliseconds()))
			if err != unix.EINTR {
				require.NoError(t, err)
				require.Equal(t, 1, n, "nothing came")
				return
			}
		}
	}))
}

// HC-06: shutting down a connection whose peer is gone fails, and says so; the
// end itself comes from reading.
func TestWriteEOFWithoutPeer(t *testing.T) {
	r := newRecorder()
	r.onMade = func(tr strand.Transport) { tr.PauseReading() } // as long as nobody reads, nobody knows
	tr, peer := connected(t, kinds[0], r, nil)
	reset(t, peer)
	awaitReady(t, tr.ExtraInfo(strand.ExtraSocket), 0)
	require.ErrorIs(t, tr.WriteEOF(), syscall.ENOTCONN)
	require.False(t, tr.IsClosing())
	tr.ResumeReading()
	require.ErrorIs(t, r.awaitLost(t), syscall.ECONNRESET)
}

// CL-05: closing with received data that nobody has read resets the connection;
// that is the kernel's rule, and strand does nothing about it.
func TestAbortWithUnreadDataResets(t *testing.T) {
	for name, end := range map[string]func(strand.Transport){
		"Abort": strand.Transport.Abort,
		"Close": func(tr strand.Transport) { tr.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecorder()
			r.onMade = func(tr strand.Transport) { tr.PauseReading() }
			tr, peer := connected(t, kinds[0], r, nil)
			_, err := peer.Write([]byte("unread"))
			require.NoError(t, err)
			awaitReady(t, tr.ExtraInfo(strand.ExtraSocket), unix.POLLIN)
			end(tr)
			require.NoError(t, r.awaitLost(t))
			_, err = peer.(*net.TCPConn).Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
		})
	}
}
