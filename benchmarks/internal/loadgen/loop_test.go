//go:build linux

package loadgen

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// serveTCP runs handle for every connection until the test ends.
func serveTCP(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	// The loop blocks in raw system calls, so the server needs other processors.
	old := runtime.GOMAXPROCS(4)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close(); runtime.GOMAXPROCS(old) })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); handle(c) }()
		}
	}()
	return ln.Addr().String()
}

func echoBack(c net.Conn) { _, _ = io.Copy(c, c) }

func testLoop(t *testing.T, cfg Config) *loop {
	t.Helper()
	cfg.Net, cfg.Warmup, cfg.Duration = "tcp", 5*time.Millisecond, 50*time.Millisecond
	l, err := newLoop(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func TestEchoIsMeasured(t *testing.T) {
	for name, cfg := range map[string]Config{
		"ping-pong": {Conns: 3, Size: 64, Depth: 1},
		"pipelined": {Conns: 2, Size: 64, Depth: 16},
		"streaming": {Conns: 2, Size: maxSize, Depth: 4},
		"paced":     {Conns: 4, Size: 64, Depth: 1, Rate: 2000},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Mode, cfg.Addr = Echo, serveTCP(t, echoBack)
			r, err := testLoop(t, cfg).echo()
			if err != nil || r.Ops == 0 || r.P50 <= 0 || r.P999 < r.P50 || r.Seconds < 0.05 {
				t.Errorf("result %+v, %v", r, err)
			}
		})
	}
}

func TestPacedRateIsKept(t *testing.T) {
	cfg := Config{Mode: Echo, Conns: 4, Size: 64, Depth: 1, Rate: 2000, Addr: serveTCP(t, echoBack)}
	l := testLoop(t, cfg)
	l.cfg.Duration = 250 * time.Millisecond
	r, err := l.echo()
	if rate := float64(r.Ops) / r.Seconds; err != nil || rate < 1600 || rate > 2400 {
		t.Errorf("%.0f messages per second, %v; want 2000", rate, err)
	}
}

func TestChurnIsMeasured(t *testing.T) {
	cfg := Config{Mode: Churn, Conns: 4, Size: 64, Depth: 1, Addr: serveTCP(t, echoBack)}
	if r, err := testLoop(t, cfg).churn(); err != nil || r.Ops == 0 {
		t.Errorf("result %+v, %v", r, err)
	}
}

func TestFetchChecksTheFile(t *testing.T) {
	var file bytes.Buffer
	if err := WriteFile(&file, 3<<20); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Mode: Fetch, Conns: 1, Size: 64, Depth: 1, FileSize: 3 << 20}
	cfg.Addr = serveTCP(t, func(c net.Conn) { _, _ = c.Write(file.Bytes()) })
	if r, err := testLoop(t, cfg).fetch(); err != nil || r.Ops < 3 {
		t.Errorf("result %+v, %v", r, err)
	}
	cfg.Addr = serveTCP(t, func(c net.Conn) { _, _ = c.Write(file.Bytes()[:2<<20]) })
	if _, err := testLoop(t, cfg).fetch(); err == nil {
		t.Error("a short file is accepted")
	}
}

// What a broken server does must end the run with a reason.
func TestBrokenServersAreFound(t *testing.T) {
	for reason, handle := range map[string]func(net.Conn){
		"wrong bytes": func(c net.Conn) {
			buf := make([]byte, 64)
			_, _ = io.ReadFull(c, buf)
			buf[63] ^= 1
			_, _ = c.Write(buf)
			echoBack(c)
		},
		"more bytes": func(c net.Conn) {
			buf := make([]byte, 64)
			_, _ = io.ReadFull(c, buf)
			_, _ = c.Write(append(buf, 0))
			echoBack(c)
		},
		"EOF": func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 64)) },
	} {
		l := testLoop(t, Config{Mode: Echo, Conns: 1, Size: 64, Depth: 1, Addr: serveTCP(t, handle)})
		if _, err := l.echo(); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("error %v, want one that says %q", err, reason)
		}
	}
}

func TestOtherMachinesAreNotLoaded(t *testing.T) {
	for _, addr := range []string{"192.0.2.1:80", "[2001:db8::1]:80", "localhost:80", "127.0.0.1"} {
		if _, err := loopback(addr); err == nil {
			t.Errorf("%s is accepted", addr)
		}
	}
}

func TestPatternRepeatsWithoutASeam(t *testing.T) {
	p := newPattern()
	if !bytes.Equal(p.at(patternPeriod-10, 20), append(slices.Clone(p.at(patternPeriod-10, 10)), p.at(0, 10)...)) {
		t.Error("the end of the period does not join its beginning")
	}
	if bytes.Equal(p.at(0, maxSize), p.at(maxSize, maxSize)) {
		t.Error("two messages in a row are the same")
	}
	if p.check(5, p.at(5, 100)) != nil || p.check(5, p.at(6, 100)) == nil {
		t.Error("check accepts other bytes or refuses the right ones")
	}
}
