package strand_test

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// DG-01: an abstract name may begin with a zero or with "@", and be as long as the
// kernel allows.
func TestDatagramAbstractNames(t *testing.T) {
	short := t.Name()
	long := (short + strings.Repeat("x", 107))[:107]
	for _, name := range []string{"@" + short, "\x00" + short, "@" + long, "\x00" + long} {
		peer, err := net.ListenPacket("unixgram", name)
		require.NoError(t, err)
		addr := &net.UnixAddr{Name: name, Net: "unixgram"}
		r := newDatagramRecorder()
		tr := createDatagram(t, "unixgram", "", "", r, nil)
		require.NoError(t, tr.SendTo([]byte("question"), addr))
		question, from := readPacket(t, peer)
		require.Equal(t, "question", question)
		writePacket(t, peer, "answer", from)
		_, senders := r.awaitPackets(t, 1)
		require.NoError(t, tr.SendTo([]byte("thanks"), senders[0]))
		thanks, _ := readPacket(t, peer)
		require.Equal(t, "thanks", thanks)

		connected := createDatagram(t, "unixgram", "", name, newDatagramRecorder(), nil)
		require.NoError(t, connected.SendTo([]byte("hello"), addr), "the peer by its name")
		hello, _ := readPacket(t, peer)
		require.Equal(t, "hello", hello)
		require.NoError(t, peer.Close())
	}
}

// DG-01: a peer whose name is filled up with zeros, as that of many a C program
// that binds a whole struct sockaddr_un, gets its answer.
func TestDatagramNameFullOfZeros(t *testing.T) {
	if raceDetector {
		t.Skip("package unix takes a zero for the end of an abstract name")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	name := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	for i, c := range []byte(t.Name()) {
		name.Path[1+i] = int8(c)
	}
	_, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&name)), unsafe.Sizeof(name))
	require.Zero(t, errno)
	r := newDatagramRecorder()
	r.onDatagram = func(data []byte, from net.Addr) { require.NoError(t, r.tr.SendTo(data, from)) }
	tr := createDatagram(t, "unixgram", unixPath(t), "", r, nil)
	require.NoError(t, unix.Sendto(fd, []byte("hello"), 0, &unix.SockaddrUnix{Name: tr.LocalAddr().String()}))
	r.awaitPackets(t, 1)
	require.NoError(t, tr.Close())
	require.NoError(t, r.awaitLost(t))
	answer := make([]byte, 10)
	n, err := unix.Read(fd, answer)
	require.NoError(t, err)
	require.Equal(t, "hello", string(answer[:n]))
}

// DG-02: what Unix sockets carry may be larger than any datagram of UDP. What is
// larger than a receive buffer, too, is reported, and never delivered cut.
func TestDatagramLargestUnix(t *testing.T) {
	r := newDatagramRecorder()
	r.onDatagram = func(data []byte, from net.Addr) { require.NoError(t, r.tr.SendTo(data, from)) }
	tr := unixKind.endpoint(t, r, nil)
	peer := unixKind.socket(t).(*net.UnixConn)
	require.NoError(t, peer.SetWriteBuffer(1<<20))
	answer := make([]byte, 1<<20)
	for _, size := range []int{100_000, 200_000} {
		data := strings.Repeat("01234567", size/8)
		writePacket(t, peer, data, to(tr))
		require.NoError(t, peer.SetReadDeadline(time.Now().Add(patience)))
		n, _, err := peer.ReadFrom(answer)
		require.NoError(t, err)
		require.True(t, string(answer[:n]) == data, "%d bytes came back", n)
	}
	if _, err := peer.WriteTo(make([]byte, 256<<10+1), to(tr)); err != nil {
		t.Skip("this system has no larger ones:", err)
	}
	require.ErrorIs(t, r.awaitErrors(t, 1)[0], syscall.EMSGSIZE)
	require.Len(t, r.packets, 2)
}
