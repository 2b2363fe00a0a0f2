package strand_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gostrand/strand"
)

// openPty makes a terminal: a master side, and the slave that programs use, in
// raw mode. Both are closed with the test.
func openPty(t testing.TB) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	raw, err := master.SyscallConn() // Fd would make it block
	require.NoError(t, err)
	var number int
	require.NoError(t, raw.Control(func(fd uintptr) {
		err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		require.NoError(t, err)
		number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	}))
	require.NoError(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		master.Close()
		slave.Close()
	})
	raw, err = slave.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		var attr *unix.Termios
		attr, err = unix.IoctlGetTermios(int(fd), unix.TCGETS)
		require.NoError(t, err)
		attr.Oflag &^= unix.OPOST
		attr.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
		attr.Iflag &^= unix.ICRNL | unix.IXON
		err = unix.IoctlSetTermios(int(fd), unix.TCSETS, attr)
	}))
	require.NoError(t, err)
	return master, slave
}

// RP-01, WP-01, RP-05: either side of a terminal, blocking or not, is a
// transport; when the other side closes, which a read reports as EIO, that is
// an end of file and no error.
func TestPipePty(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		for _, side := range []string{"master", "slave"} {
			t.Run(fmt.Sprintf("%s blocking=%v", side, blocking), func(t *testing.T) {
				ours, peer := openPty(t)
				if side == "slave" {
					ours, peer = peer, ours
				}
				if blocking {
					ours.Fd()
				}
				rec := newRecorder()
				tr := connectPipe(t, ours, ours, rec, nil)
				mustWrite(t, tr, []byte("hello"))
				require.Equal(t, "hello", string(readExactly(t, peer, 5)))
				_, err := peer.Write([]byte("world"))
				require.NoError(t, err)
				rec.awaitData(t, 5)
				require.Equal(t, "world", string(rec.received()))
				require.NoError(t, peer.Close())
				require.NoError(t, rec.awaitLost(t))
				requireClosed(t, ours)
				rec.wantCalls(t, "an end of file", "ConnectionMade", "DataReceived 5", "EOFReceived", "ConnectionLost nil")
			})
		}
	}
}

// WP-05: a write-only terminal learns from its next write, and no sooner, that
// the other side is gone.
func TestWritePipePty(t *testing.T) {
	master, slave := openPty(t)
	rec := newRecorder()
	tr := connectPipe(t, nil, slave, rec, nil)
	mustWrite(t, tr, []byte("hello"))
	require.Equal(t, "hello", string(readExactly(t, master, 5)))
	require.NoError(t, master.Close())
	turn := make(chan struct{})
	require.True(t, tr.CallSoon(func() { close(turn) }))
	await(t, "a turn", turn)
	require.False(t, tr.IsClosing())
	_, err := tr.Write([]byte("x"))
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorIs(t, rec.awaitLost(t), syscall.EIO)
}

// RP-01: the process's own terminal.
func TestPipeOwnTerminal(t *testing.T) {
	master, slave := openPty(t)
	cmd := helper(t, "echo")
	cmd.Stdin, cmd.Stdout = slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	_, err := master.Write([]byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "hello", string(readExactly(t, master, 5)))
	require.True(t, isBlocking(t, slave), "the description is shared")
	slave.Close()
	require.NoError(t, master.Close())
	err = cmd.Wait() // the end of its terminal is also a SIGHUP
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit)
		require.Equal(t, syscall.SIGHUP, exit.Sys().(syscall.WaitStatus).Signal())
	}
}

// SU-06, RP-05: a child on a terminal, whose master side is a transport.
func TestSubprocessPty(t *testing.T) {
	master, slave := openPty(t)
	c, screen := newChildRecorder(), newRecorder()
	tr := connectPipe(t, master, master, screen, nil)
	on := strand.StdioFile(slave)
	child := spawn(t, c, &strand.SubprocessOptions{
		Stdin: on, Stdout: on, Stderr: on,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true},
	}, "/bin/sh", "-c", "test -t 0 && test -t 1 && echo terminal; read line; echo got $line; exit 3")
	require.NoError(t, slave.Close())
	mustWrite(t, tr, []byte("input\n"))
	require.NoError(t, screen.awaitLost(t))
	require.NoError(t, c.awaitEnd(t))
	requireExit(t, child, 3)
	require.Equal(t, "terminal\ngot input\n", strings.ReplaceAll(string(screen.received()), "\r", ""))
	c.wantEvents(t, "there are no pipes", "ProcessExited", "ConnectionLost nil")
}

// RP-02: a terminal that blocks and is opened anew leaves no descriptor.
func TestPipePtyDescriptors(t *testing.T) {
	before := openDescriptors(t)
	for range 10 {
		master, slave := openPty(t)
		slave.Fd()
		tr, _, err := strand.ConnectPipe(context.Background(), slave, slave, newRecorder, nil)
		require.NoError(t, err)
		tr.Abort()
		await(t, "the end", tr.Done())
		require.NoError(t, master.Close())
	}
	requireDescriptors(t, before)
}
