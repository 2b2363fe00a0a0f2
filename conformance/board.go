package conformance

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// callbackEvents are the counters that belong to a connection; without a
// connection's name they mean the first.
var callbackEvents = map[string]bool{
	"made": true, "data": true, "eof": true, "pause": true, "resume": true, "lost": true,
	"dgram": true, "error": true, "exited": true, "tls": true, "tls_failed": true,
	"sendfile": true, "fd0": true, "fd1": true, "fd2": true,
	"fd0_lost": true, "fd1_lost": true, "fd2_lost": true,
}

// The board holds counters that scripts and callbacks post to and wait for.
// Every wait of a scenario is a wait for a counter, so its order is decided by
// what happened and never by how long something took.
type board struct {
	timeout time.Duration

	mu      sync.Mutex
	counts  map[string]int
	changed chan struct{} // closed at each change and replaced
	failure error
}

func newBoard(timeout time.Duration) *board {
	return &board{timeout: timeout, counts: make(map[string]int), changed: make(chan struct{})}
}

// post adds n to a counter and wakes everybody who waits.
func (b *board) post(key string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[key] += n
	b.wakeLocked()
}

// fail releases every waiter: one actor failed.
func (b *board) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failure == nil {
		b.failure = err
	}
	b.wakeLocked()
}

func (b *board) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) count(key string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts[key]
}

// wait blocks until the counter of NAME[:COUNT] has reached COUNT.
func (b *board) wait(token string) error {
	key, need, err := parseEvent(token)
	if err != nil {
		return err
	}
	timeout := time.NewTimer(b.timeout)
	defer timeout.Stop()
	for {
		b.mu.Lock()
		count, changed, failure := b.counts[key], b.changed, b.failure
		b.mu.Unlock()
		switch {
		case failure != nil:
			return fmt.Errorf("released: %w", failure)
		case count >= need:
			return nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return fmt.Errorf("waited for %q; seen %s", token, b)
		}
	}
}

func parseEvent(token string) (key string, need int, err error) {
	key, count, found := strings.Cut(token, ":")
	need = 1
	if found {
		need, err = strconv.Atoi(count)
	}
	if callbackEvents[key] {
		key = "c0." + key
	}
	return key, need, err
}

func (b *board) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var seen []string
	for _, key := range slices.Sorted(maps.Keys(b.counts)) {
		seen = append(seen, fmt.Sprintf("%s:%d", key, b.counts[key]))
	}
	return strings.Join(seen, " ")
}
