// Soak keeps thousands of connections busy over the loopback interface for a
// while, and then accounts for every byte and every callback.
//
//	go run ./strandtest/cmd/soak -conns 5000 -duration 10m
//
// Clients and servers of package strand talk in one process: over TCP, Unix
// sockets and TLS, with messages of random sizes, stalls, slow readers, half
// closes, aborts and resets. A connection that ends is followed by another.
// What is sent is a pattern that depends on the place in the stream, so that
// what arrives can be compared with it. At the end the process must be as it
// was at the start: no goroutine, no descriptor and no memory more. The exit
// status is 1 if anything is wrong.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"github.com/gostrand/strand"
)

func main() {
	conns := flag.Int("conns", 5000, "connections at a time")
	duration := flag.Duration("duration", 10*time.Minute, "how long connections are made")
	seed := flag.Uint64("seed", rand.Uint64(), "of all random choices")
	think := flag.Duration("think", 20*time.Second, "longest time for which a connection is idle before it begins")
	report := flag.Duration("report", 10*time.Second, "time between two lines about what happens")
	flag.Parse()
	if err := soak(*conns, *duration, *think, *report, *seed); err != nil {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

// soak runs the whole and returns what is wrong.
func soak(conns int, duration, think, report time.Duration, seed uint64) error {
	if err := warmUp(); err != nil {
		return err
	}
	start := measure()
	fmt.Printf("start: %v; seed %d, %d connections for %v, %d CPUs, %s\n", start, seed, conns, duration, runtime.NumCPU(), runtime.Version())
	l := newLedger(think)
	servers, err := listen(l)
	if err != nil {
		return err
	}
	began := time.Now()
	err = l.drive(servers, conns, duration, report, seed)
	servers.close()
	end := settle(start)
	fmt.Printf("end:   %v, after %v\n", end, time.Since(began).Round(time.Second))
	l.print()
	return firstError(err, l.verdict(), end.leaks(start))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// warmUp makes a connection of every kind, so that what the process keeps for
// good (the resolver, the poller, the certificate) is there before measuring.
func warmUp() error {
	l := newLedger(time.Millisecond)
	servers, err := listen(l)
	if err != nil {
		return err
	}
	err = l.drive(servers, 60, time.Second, time.Hour, 1)
	servers.close() // the servers' ends come to theirs later
	return firstError(err, l.verdict())
}

// state is what must be the same at the end.
type state struct {
	goroutines  int
	descriptors int // -1 where they cannot be counted
	heap        uint64
}

func (s state) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %.1f MiB heap", s.goroutines, s.descriptors, float64(s.heap)/(1<<20))
}

func measure() state {
	for range 3 { // pools are emptied by the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := state{goroutines: runtime.NumGoroutine(), descriptors: -1, heap: m.HeapAlloc}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.descriptors = len(entries)
	}
	return s
}

// settle measures until the process is as it was at the start, or for ten
// seconds: the last goroutines may still be on their way out.
func settle(start state) state {
	for range 100 {
		if s := measure(); s.leaks(start) == nil {
			return s
		}
		time.Sleep(100 * time.Millisecond)
	}
	return measure()
}

// heapSlack is what the heap may have grown. The runtime keeps the descriptor of
// every goroutine for good, for the next one: some 490 bytes for each of as many
// as there were at a time. 5,000 connections are 15,000 goroutines (two readers
// and the one that drives them) and up to 10,000 writers, that is 7 to 12 MiB.
// Maps and pools do not shrink to what they were, either. Something kept for
// each connection is found out all the same: a run makes more than a hundred
// thousand.
const heapSlack = 16 << 20

func (s state) leaks(start state) error {
	switch {
	case s.goroutines > start.goroutines:
		return fmt.Errorf("%d goroutines are left, %d were there at the start", s.goroutines, start.goroutines)
	case s.descriptors > start.descriptors:
		return fmt.Errorf("%d descriptors are left, %d were there at the start", s.descriptors, start.descriptors)
	case s.heap > start.heap+heapSlack:
		return fmt.Errorf("the heap has grown from %d to %d bytes", start.heap, s.heap)
	}
	return nil
}

// options are those of both ends.
func options() strand.TransportOptions {
	return strand.TransportOptions{Logger: slog.New(slog.DiscardHandler), WriteBufferHigh: 32 << 10}
}
