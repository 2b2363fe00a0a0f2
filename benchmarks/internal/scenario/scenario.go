// Package scenario lists what compare measures.
package scenario

import (
	"regexp"
	"time"

	"github.com/gostrand/strand/benchmarks/internal/loadgen"
)

// A Kind is what a server must be able to do.
type Kind string

const (
	TCP  Kind = "tcp"
	Unix Kind = "unix"
	UDP  Kind = "udp"
	TLS  Kind = "tls"
	File Kind = "file" // send a file to every connection
)

// Net returns the network of a kind.
func (k Kind) Net() string {
	if k == TLS || k == File {
		return string(TCP)
	}
	return string(k)
}

// A Unit is what a scenario's throughput is counted in.
type Unit struct {
	Rate string  // of the throughput
	Op   string  // of the CPU time: microseconds per Op
	Ops  float64 // operations in one unit of Rate
}

var (
	requests  = Unit{"req/s", "request", 1}
	packets   = Unit{"packets/s", "packet", 1}
	visits    = Unit{"conns/s", "connection", 1}
	chunks    = Unit{"MiB/s", "64 KiB", 16}
	mebibytes = Unit{"MiB/s", "MiB", 1}
)

// A Scenario is one load, the same for every server of its kind.
type Scenario struct {
	Name  string
	Title string
	Kind  Kind
	Unit  Unit
	Load  loadgen.Config // Net, Addr, TLS, PID and times are filled in by the run
}

// Idle tells whether the scenario measures memory instead of speed.
func (s Scenario) Idle() bool { return s.Load.Mode == loadgen.Idle }

// All returns the scenarios in the order in which they run.
func All() []Scenario {
	return []Scenario{
		echo("tcp-64-c1", "TCP echo 64 B, 1 connection", TCP, 1, 64, 1),
		echo("tcp-64-c64", "TCP echo 64 B, 64 connections", TCP, 64, 64, 1),
		echo("tcp-64-c1000", "TCP echo 64 B, 1,000 connections", TCP, 1000, 64, 1),
		paced("tcp-64-paced", "TCP echo 64 B, 64 connections, paced 20,000/s", 20000),
		echo("tcp-4k-c64", "TCP echo 4 KiB, 64 connections", TCP, 64, 4096, 1),
		echo("tcp-pipe16-c64", "TCP echo 64 B pipelined by 16, 64 connections", TCP, 64, 64, 16),
		stream("tcp-stream-c1", "TCP stream 64 KiB, 1 connection", TCP, 1),
		stream("tcp-stream-c8", "TCP stream 64 KiB, 8 connections", TCP, 8),
		{"tcp-churn", "TCP connect + echo 64 B + close, 16 at a time", TCP, visits,
			loadgen.Config{Mode: loadgen.Churn, Conns: 16, Size: 64, Depth: 1}},
		idle("idle-64", "10,000 idle TCP connections after one 64 B echo", TCP, 10000, 64),
		idle("idle-64k", "10,000 idle TCP connections after one 64 KiB echo", TCP, 10000, 64<<10),
		echo("unix-64-c64", "Unix echo 64 B, 64 connections", Unix, 64, 64, 1),
		datagram("udp-64-s16", "UDP echo 64 B, 16 sockets, 1 outstanding each", 1),
		datagram("udp-64-s16-out8", "UDP echo 64 B, 16 sockets, 8 outstanding each", 8),
		echo("tls-1k-c64", "TLS 1.3 echo 1 KiB, 64 connections", TLS, 64, 1024, 1),
		stream("tls-stream-c1", "TLS 1.3 stream 64 KiB, 1 connection", TLS, 1),
		idle("idle-tls", "2,000 idle TLS 1.3 connections after one 1 KiB echo", TLS, 2000, 1024),
		{"sendfile", "File over TCP loopback, 1 connection", File, mebibytes,
			loadgen.Config{Mode: loadgen.Fetch, Conns: 1, Size: 64, Depth: 1}},
	}
}

func echo(name, title string, kind Kind, conns, size, depth int) Scenario {
	return Scenario{name, title, kind, requests, loadgen.Config{Mode: loadgen.Echo, Conns: conns, Size: size, Depth: depth}}
}

func paced(name, title string, rate float64) Scenario {
	s := echo(name, title, TCP, 64, 64, 1)
	s.Load.Rate = rate
	return s
}

// stream keeps four messages of 64 KiB in flight: enough that neither side
// waits for the other, and bounded, so that a server without backpressure does
// not pile up memory.
func stream(name, title string, kind Kind, conns int) Scenario {
	s := echo(name, title, kind, conns, 64<<10, 4)
	s.Unit = chunks
	return s
}

func idle(name, title string, kind Kind, conns, size int) Scenario {
	return Scenario{name, title, kind, visits,
		loadgen.Config{Mode: loadgen.Idle, Conns: conns, Size: size, Depth: 1, Settle: 3 * time.Second}}
}

func datagram(name, title string, outstanding int) Scenario {
	return Scenario{name, title, UDP, packets,
		loadgen.Config{Mode: loadgen.Datagram, Conns: 16, Size: 64, Depth: outstanding}}
}

// Match returns the scenarios whose name the expression matches.
func Match(re *regexp.Regexp) []Scenario {
	var matching []Scenario
	for _, s := range All() {
		if re.MatchString(s.Name) {
			matching = append(matching, s)
		}
	}
	return matching
}
