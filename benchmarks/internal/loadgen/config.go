// Package loadgen is the client half of the benchmarks: one thread, one epoll
// set, raw system calls, no goroutine switch and no garbage collection while it
// measures. It must cost little and the same for every server, because client
// and server share a machine.
package loadgen

import (
	"fmt"
	"time"
)

// A Mode says what one operation is.
type Mode string

const (
	Echo     Mode = "echo"     // one message there and back, on connections that stay
	Datagram Mode = "datagram" // the same over UDP
	Churn    Mode = "churn"    // connect, one message there and back, close
	Idle     Mode = "idle"     // no operation: the memory of connections that have echoed once
	Fetch    Mode = "fetch"    // connect and read a file to its end; counted in MiB
)

// A Config describes one run.
type Config struct {
	Mode     Mode
	Net      string // tcp, unix or udp
	Addr     string
	TLS      bool
	Conns    int           // connections (Churn: at the same time)
	Size     int           // bytes of a message
	Depth    int           // messages in flight on each connection
	Rate     float64       // messages per second on all connections together; 0 = as fast as answers come
	FileSize int64         // Fetch: the file's length
	Warmup   time.Duration // runs before the measured window
	Duration time.Duration // the measured window
	Settle   time.Duration // Idle: time between the last echo and the reading of memory
	PID      int           // the server's process, measured in the same window; 0 = none
}

const (
	// maxSize bounds a message so that one always fits the pattern and the buffer.
	maxSize = 64 << 10
	// A datagram begins with its number, 8 bytes; the rest is the pattern at
	// number times size, from the socket's own start on.
	datagramHeader = 8
)

func (c Config) validate() error {
	switch {
	case c.Conns < 1 || c.Depth < 1:
		return fmt.Errorf("conns %d, depth %d: both are at least 1", c.Conns, c.Depth)
	case c.Size < 1 || c.Size > maxSize:
		return fmt.Errorf("size %d: 1 to %d", c.Size, maxSize)
	case c.Mode == Datagram && c.Size < datagramHeader:
		return fmt.Errorf("size %d: a datagram needs %d bytes for its number", c.Size, datagramHeader)
	case !(c.Rate >= 0 && c.Rate <= float64(time.Second)): // not a number is neither
		return fmt.Errorf("rate %v: 0 to one a nanosecond", c.Rate)
	case c.Rate != 0 && (c.Mode != Echo || c.Depth != 1):
		return fmt.Errorf("a rate needs mode echo and depth 1")
	case c.Mode == Idle && c.PID == 0:
		return fmt.Errorf("mode idle measures a process and needs its id")
	}
	return nil
}

// A Result is what one run measured within its window.
type Result struct {
	Ops     int64   `json:"ops"`
	Seconds float64 `json:"seconds"`

	// Latencies in microseconds; those of a paced run count from the moment
	// the message was due, so a late client cannot hide a slow server.
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`

	// CPU seconds in the window. Busy and Steal are those of the whole machine.
	ServerCPU float64 `json:"server_cpu"`
	ClientCPU float64 `json:"client_cpu"`
	Busy      float64 `json:"busy"`
	Steal     float64 `json:"steal"`

	BytesPerConn float64 `json:"bytes_per_conn,omitempty"` // Idle only
	Lost         int64   `json:"lost,omitempty"`           // Datagram only: answers that did not come
	Cipher       string  `json:"cipher,omitempty"`         // TLS only
}
