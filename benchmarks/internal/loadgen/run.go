//go:build linux

package loadgen

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Run does one run. It takes over the process: it sets the garbage collector
// and keeps its thread, so a process calls it once.
func Run(cfg Config) (Result, error) {
	if err := cfg.validate(); err != nil {
		return Result{}, err
	}
	runtime.LockOSThread()
	runtime.GOMAXPROCS(1)
	// The loop allocates next to nothing; the limit is for TLS.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(1 << 30)
	l, err := newLoop(cfg)
	if err != nil {
		return Result{}, err
	}
	defer l.close()
	switch cfg.Mode {
	case Echo:
		return l.echo()
	case Datagram:
		return l.datagram()
	case Churn:
		return l.churn()
	case Idle:
		return l.idle()
	case Fetch:
		return l.fetch()
	}
	return Result{}, fmt.Errorf("unknown mode %q", cfg.Mode)
}
