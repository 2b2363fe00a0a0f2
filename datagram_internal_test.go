//go:build unix

package strand

import (
	"context"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
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

// brokenRaw is a descriptor with which something is wrong: that of a socket on
// which receiving fails, each time, with ENOTCONN.
type brokenRaw int

func newBrokenRaw(t *testing.T) brokenRaw {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return brokenRaw(fd)
}

func (r brokenRaw) Control(f func(fd uintptr)) error {
	f(uintptr(r))
	return nil
}

func (r brokenRaw) Read(f func(fd uintptr) bool) error {
	for !f(uintptr(r)) {
	}
	return nil
}

func (r brokenRaw) Write(f func(fd uintptr) bool) error { return r.Read(f) }

// DG-10, DG-12: an error that comes again and again does not keep a processor
// busy. While the reader waits others have the turn, a pause holds, and an end
// comes at once.
func TestErrorThatRepeats(t *testing.T) {
	for name, end := range map[string]func(e *endpoint){
		"Close": func(e *endpoint) { e.Close() },
		"Abort": (*endpoint).Abort,
	} {
		t.Run(name, func(t *testing.T) {
			pc, err := net.ListenPacket("udp", "127.0.0.1:0")
			require.NoError(t, err)
			raw := newBrokenRaw(t)
			synctest.Test(t, func(t *testing.T) {
				cfg, err := new(TransportOptions).resolve()
				require.NoError(t, err)
				h := new(heard)
				e := newEndpoint(pc, h, cfg)
				e.raw = raw
				require.NoError(t, e.start(context.Background()))
				defer e.Abort()
				heard := func() int { // in turn
					synctest.Wait()
					e.d.enter()
					defer e.d.leave()
					return len(h.calls)
				}
				heardIn := func(d time.Duration) int {
					before := heard()
					time.Sleep(d)
					return heard() - before
				}
				require.Greater(t, heard(), 16, "a few may come one behind the other")
				n := heardIn(10 * time.Second)
				require.Greater(t, n, 10)
				require.Less(t, n, 20)
				before := heard()
				for range 100 {
					e.PauseReading()
					synctest.Wait()
					e.ResumeReading()
				}
				require.Equal(t, before, heard(), "ResumeReading makes it no shorter")
				e.PauseReading()
				require.Zero(t, heardIn(10*time.Second))
				e.ResumeReading()
				require.Positive(t, heardIn(2*time.Second))

				start := time.Now()
				ran := false
				require.True(t, e.CallSoon(func() { ran = true }))
				synctest.Wait()
				require.True(t, ran)
				end(e)
				<-e.Done()
				require.Zero(t, time.Since(start))
				require.Contains(t, h.calls[0], syscall.ENOTCONN.Error())
			})
		})
	}
}
