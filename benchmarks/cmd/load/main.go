//go:build linux

// Command load drives one echo server and prints what it measured as JSON.
// compare runs it; by hand it is good for profiling a server.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/gostrand/strand/benchmarks/internal/loadgen"
)

func main() {
	var cfg loadgen.Config
	flag.StringVar((*string)(&cfg.Mode), "mode", "echo", "echo, datagram, churn, idle or fetch")
	flag.StringVar(&cfg.Net, "net", "tcp", "tcp, unix or udp")
	flag.StringVar(&cfg.Addr, "addr", "", "the server's address")
	flag.BoolVar(&cfg.TLS, "tls", false, "speak TLS 1.3")
	flag.IntVar(&cfg.Conns, "conns", 64, "connections")
	flag.IntVar(&cfg.Size, "size", 64, "bytes of a message")
	flag.IntVar(&cfg.Depth, "depth", 1, "messages in flight on each connection")
	flag.Float64Var(&cfg.Rate, "rate", 0, "messages per second in total; 0 = as fast as answers come")
	flag.Int64Var(&cfg.FileSize, "filesize", 1<<30, "bytes of the file (mode fetch)")
	flag.DurationVar(&cfg.Warmup, "warmup", 500*time.Millisecond, "time before the window")
	flag.DurationVar(&cfg.Duration, "duration", 3*time.Second, "the measured window")
	flag.DurationVar(&cfg.Settle, "settle", 3*time.Second, "time before memory is read (mode idle)")
	flag.IntVar(&cfg.PID, "pid", 0, "the server's process id, to measure its CPU time")
	flag.Parse()
	result, err := loadgen.Run(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
