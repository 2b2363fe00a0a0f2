//go:build unix

package strand_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// bothUnixStarts runs a test over Unix servers with and without DelayStart,
// whose sockets are made in another way.
func bothUnixStarts(t *testing.T, test func(t *testing.T, path string, delay bool)) {
	for _, delay := range []bool{false, true} {
		t.Run(fmt.Sprint("DelayStart ", delay), func(t *testing.T) {
			test(t, filepath.Join(shortTempDir(t), "s"), delay)
		})
	}
}

func serveUnix(t testing.TB, path string, opts *strand.ServerOptions) *testServer {
	t.Helper()
	s := serve(t, "unix", path, opts, nil)
	require.NoError(t, s.StartServing())
	return s
}

// US-01: a socket's file is in nobody's way, whether it is a dead server's or a
// live one's.
func TestUnixServerTakesOver(t *testing.T) {
	bothUnixStarts(t, func(t *testing.T, path string, delay bool) {
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		require.NoError(t, err)
		dead.SetUnlinkOnClose(false)
		dead.Close()
		require.FileExists(t, path)
		first := serveUnix(t, path, &strand.ServerOptions{DelayStart: delay})
		requireServes(t, first)
		second := serveUnix(t, path, &strand.ServerOptions{DelayStart: delay})
		requireServes(t, second)
		require.Equal(t, path, second.addr().String())
	})
}

// US-01: any other file stays, and the error says what is in the way.
func TestUnixServerOverOtherFile(t *testing.T) {
	bothUnixStarts(t, func(t *testing.T, path string, delay bool) {
		require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
		before := openDescriptors(t)
		_, err := strand.CreateServer(context.Background(), "unix", path, newRecorder, &strand.ServerOptions{DelayStart: delay})
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.ErrorContains(t, err, path)
		requireDescriptors(t, before)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "precious", string(content))
	})
}

// US-01: Linux's abstract names need no file, and harm none that has their name.
func TestUnixServerAbstract(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("abstract names are Linux's")
	}
	t.Chdir(t.TempDir())
	name := fmt.Sprintf("@strand-test-%d", os.Getpid())
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	for _, delay := range []bool{false, true} {
		s := serveUnix(t, name, &strand.ServerOptions{DelayStart: delay})
		require.Equal(t, name, s.addr().String())
		requireServes(t, s)
		s.Close()
		require.FileExists(t, name)
	}
	s := serveUnix(t, "\x00"+name[1:], nil) // as the reference spells it
	require.Equal(t, name, s.addr().String())
	requireServes(t, s)
}

// US-02: Close removes the file, also of a server that never started.
func TestUnixServerRemovesItsFile(t *testing.T) {
	bothUnixStarts(t, func(t *testing.T, path string, delay bool) {
		s := serve(t, "unix", path, &strand.ServerOptions{DelayStart: delay}, nil)
		require.FileExists(t, path)
		s.Close()
		require.NoFileExists(t, path)
		require.NoFileExists(t, path, "and a second Close")
		started := serveUnix(t, path, &strand.ServerOptions{DelayStart: delay})
		started.Close()
		require.NoFileExists(t, path)
	})
}

// US-02: a file that has taken the place of the server's own stays, as does
// one that is wanted.
func TestUnixServerLeavesOtherFiles(t *testing.T) {
	bothUnixStarts(t, func(t *testing.T, path string, delay bool) {
		t.Run("replaced", func(t *testing.T) {
			s := serveUnix(t, path, &strand.ServerOptions{DelayStart: delay})
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.WriteFile(path, nil, 0o600))
			s.Close()
			require.FileExists(t, path)
			require.NoError(t, os.Remove(path))
		})
		t.Run("another server's", func(t *testing.T) {
			old := serveUnix(t, path, &strand.ServerOptions{DelayStart: delay})
			successor := serveUnix(t, path, &strand.ServerOptions{DelayStart: delay})
			old.Close()
			requireServes(t, successor)
			successor.Close()
		})
		t.Run("removed", func(t *testing.T) {
			s := serveUnix(t, path, &strand.ServerOptions{DelayStart: delay})
			require.NoError(t, os.Remove(path))
			s.Close()
		})
		t.Run("KeepSocketFile", func(t *testing.T) {
			s := serveUnix(t, path, &strand.ServerOptions{DelayStart: delay, KeepSocketFile: true})
			s.Close()
			require.FileExists(t, path)
		})
	})
}

// US-02: a listener that was given keeps its own rule, which is to remove the
// file unless it was told not to.
func TestServeUnixListenerFile(t *testing.T) {
	for _, unlink := range []bool{true, false} {
		path := filepath.Join(shortTempDir(t), "s")
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		require.NoError(t, err)
		ln.SetUnlinkOnClose(unlink)
		s, err := strand.ServeListener(ln, newRecorder, nil)
		require.NoError(t, err)
		s.Close()
		waitFor(t, s)
		_, err = os.Lstat(path)
		require.Equal(t, unlink, os.IsNotExist(err))
	}
}

// SV-15: the same path twice is bound once; bound twice, the second would have
// removed the first one's file.
func TestUnixServerSamePathTwice(t *testing.T) {
	bothUnixStarts(t, func(t *testing.T, path string, delay bool) {
		s := serveUnix(t, path, &strand.ServerOptions{DelayStart: delay, Addresses: []string{path, path + "2"}})
		require.Len(t, s.Addrs(), 2)
		requireServes(t, s)
		s.Close()
		require.NoFileExists(t, path)
		require.NoFileExists(t, path+"2")
	})
}

// US-03: a Unix datagram socket is the same Go type as a stream, and refused.
func TestUnixDatagramIsNoStream(t *testing.T) {
	dgram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(shortTempDir(t), "d"), Net: "unixgram"})
	require.NoError(t, err)
	defer dgram.Close()
	_, _, err = strand.Attach(context.Background(), dgram, newRecorder, nil)
	require.ErrorContains(t, err, "unixgram")
	s := serveTCP(t, nil, nil)
	require.ErrorContains(t, s.ServeConn(dgram), "unixgram")
	require.NoError(t, dgram.SetDeadline(time.Time{}), "it stays open")
}

// US-04: the path on the accepted side, and nothing for a client without a name
// (which package net shows as "@" or as empty).
func TestUnixAddresses(t *testing.T) {
	path := filepath.Join(shortTempDir(t), "s")
	s := serveUnix(t, path, nil)
	client, r := s.connect(t)
	tr := r.transport()
	require.Equal(t, path, tr.LocalAddr().String())
	require.Equal(t, path, tr.ExtraInfo(strand.ExtraSockname).(net.Addr).String())
	require.Contains(t, []string{"", "@"}, tr.RemoteAddr().String())
	require.Equal(t, tr.RemoteAddr(), tr.ExtraInfo(strand.ExtraPeername))
	client.Close()
	require.NoError(t, r.awaitLost(t))
	require.Equal(t, path, tr.LocalAddr().String(), "for ever")
}

// US-04, CN-06: a client that binds a path has that name.
func TestUnixClientWithName(t *testing.T) {
	dir := shortTempDir(t)
	s := serveUnix(t, filepath.Join(dir, "s"), nil)
	own := filepath.Join(dir, "c")
	tr, _, err := strand.CreateConnection(context.Background(), "unix", s.addr().String(), newRecorder, &strand.ConnectOptions{LocalAddr: own})
	require.NoError(t, err)
	defer tr.Close()
	r := await(t, "a protocol", s.made)
	r.awaitCall(t, "ConnectionMade")
	require.Equal(t, own, r.transport().RemoteAddr().String())
	require.Equal(t, own, tr.LocalAddr().String())
}
