//go:build linux

package loadgen

import (
	"net"
	"runtime"
	"testing"
	"time"
)

// serveUDP answers each datagram with what answer makes of it; nil is silence.
func serveUDP(t *testing.T, answer func([]byte) []byte) string {
	t.Helper()
	old := runtime.GOMAXPROCS(4)
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); runtime.GOMAXPROCS(old) })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := answer(buf[:n]); reply != nil {
				_, _ = c.WriteTo(reply, from)
			}
		}
	}()
	return c.LocalAddr().String()
}

func datagramLoop(t *testing.T, depth int, answer func([]byte) []byte) *loop {
	l := testLoop(t, Config{Mode: Datagram, Conns: 2, Size: 64, Depth: depth, Addr: serveUDP(t, answer)})
	l.cfg.Net = "udp"
	return l
}

func TestDatagramsAreMeasured(t *testing.T) {
	for _, depth := range []int{1, 8} {
		r, err := datagramLoop(t, depth, func(p []byte) []byte { return p }).datagram()
		if err != nil || r.Ops == 0 {
			t.Errorf("depth %d: %+v, %v", depth, r, err)
		}
	}
}

func TestLostDatagramsAreSentAgain(t *testing.T) {
	n := 0
	l := datagramLoop(t, 1, func(p []byte) []byte {
		if n++; n <= 2 {
			return nil // the first of each socket
		}
		return p
	})
	l.cfg.Warmup, l.cfg.Duration = 0, 2*answerLimit
	if r, err := l.datagram(); err != nil || r.Lost != 2 || r.Ops == 0 {
		t.Errorf("result %+v, %v; want two lost and the rest answered", r, err)
	}
}

func TestWrongDatagramsAreFound(t *testing.T) {
	for what, answer := range map[string]func([]byte) []byte{
		"cut":     func(p []byte) []byte { return p[:63] },
		"longer":  func(p []byte) []byte { return append(p, 0) },
		"changed": func(p []byte) []byte { p[20] ^= 1; return p },
	} {
		l := datagramLoop(t, 1, answer)
		l.cfg.Warmup = time.Second
		if _, err := l.datagram(); err == nil {
			t.Errorf("a %s datagram is accepted", what)
		}
	}
}
