//go:build linux

package main

import (
	"context"
	"runtime"
	"time"

	"github.com/gostrand/strand/benchmarks/internal/proc"
)

// glance is how long the machine is watched before a run: twenty ticks of
// /proc/stat on each processor.
const glance = 200 * time.Millisecond

// awaitQuiet returns when the machine is idle enough for an undisturbed run, or
// when patience ends: what disturbs is often a compiler that will be done soon.
func awaitQuiet(ctx context.Context, noise float64, patience time.Duration) error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		before, err := proc.ReadMachine()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(glance):
		}
		after, err := proc.ReadMachine()
		if err != nil {
			return err
		}
		if used := after.Sub(before); shareOf(used.Busy+used.Steal, glance) <= noise {
			return nil
		}
	}
	return nil
}

// shareOf is a time as part of what all processors have in the period.
func shareOf(used, period time.Duration) float64 {
	return used.Seconds() / (period.Seconds() * float64(runtime.NumCPU()))
}
