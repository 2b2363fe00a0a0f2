package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// account is what both ends of one connection say about it.
type account struct {
	id   uint64
	kind kind

	mu     sync.Mutex
	client side // mu
	server side // mu
}

// side is one end's part of an account.
type side struct {
	made     bool
	accepted int64 // bytes that Write took
	received int64
	lost     int // calls of ConnectionLost
	err      error
	wrong    string // the first thing that was wrong
}

// ledger has the accounts of all connections, and the sums of those that are
// closed.
type ledger struct {
	think      time.Duration // how long a client may be idle before it begins
	nextID     atomic.Uint64
	connecting chan struct{} // a token for each connection being made

	mu       sync.Mutex
	open     map[uint64]*account // mu
	closed   [kinds]int          // mu; by kind
	bytes    int64               // mu; received at either end
	errors   map[string]int      // mu; arguments of ConnectionLost, where an error was to be expected
	refused  int                 // mu; connections that could not be made
	strays   int                 // mu; server ends that got no header before their end
	problems []string            // mu
}

func newLedger(think time.Duration) *ledger {
	return &ledger{
		think:      think,
		connecting: make(chan struct{}, 64),
		open:       make(map[uint64]*account),
		errors:     make(map[string]int),
	}
}

// drive keeps n connections open for the duration, and waits for the last.
func (l *ledger) drive(s *servers, n int, duration, report time.Duration, seed uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				l.connect(s, r)
			}
		})
	}
	finished := make(chan struct{})
	go func() {
		wg.Wait()
		close(finished)
	}()
	return l.watch(ctx, finished, report)
}

// patience is how long the last connections have to end.
const patience = 3 * time.Minute

// watch reports what happens until the last connection is gone.
func (l *ledger) watch(ctx context.Context, finished <-chan struct{}, report time.Duration) error {
	tick := time.NewTicker(report)
	defer tick.Stop()
	over := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case <-finished:
			return nil
		case <-tick.C:
			l.printLine()
		case <-over:
			over, late = nil, time.After(patience)
		case <-late:
			return fmt.Errorf("%d connections never came to their end", l.left())
		}
	}
}

func (l *ledger) left() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

func (l *ledger) newAccount(k kind) *account {
	a := &account{id: l.nextID.Add(1), kind: k}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[a.id] = a
	return a
}

func (l *ledger) find(id uint64) *account {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open[id]
}

// drop forgets an account whose connection was never made.
func (l *ledger) drop(a *account, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, a.id)
	l.refused++
	l.errors["connecting: "+err.Error()]++
}

// settle closes an account when both ends are lost.
func (l *ledger) settle(a *account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client.lost == 0 || a.server.lost == 0 && a.server.made {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[a.id] == nil && a.client.lost+a.server.lost == 2 {
		return // closed without the server, which has come after all
	}
	if problem := a.audit(); problem != "" && len(l.problems) < 20 {
		l.problems = append(l.problems, fmt.Sprintf("connection %d, %v: %s; client %+v, server %+v", a.id, a.kind, problem, a.client, a.server))
	}
	delete(l.open, a.id)
	l.closed[a.kind]++
	l.bytes += a.client.received + a.server.received
	for _, s := range []side{a.client, a.server} {
		if s.err != nil {
			l.errors[fmt.Sprintf("%v: %T", a.kind, s.err)]++
		}
	}
}

// audit returns what is wrong with an account: law 1 and law 5.
func (a *account) audit() string {
	c, s := &a.client, &a.server
	switch {
	case c.wrong != "":
		return "client: " + c.wrong
	case s.wrong != "":
		return "server: " + s.wrong
	case c.lost != 1 || s.made && s.lost != 1:
		return "ConnectionLost was not seen once"
	case s.received > c.accepted || c.received > s.accepted:
		return "more was received than was sent"
	case a.kind.violent():
		return ""
	case s.received != c.accepted || c.received != s.accepted || c.received != s.received:
		return "bytes are missing"
	case c.err != nil || s.err != nil:
		return "an error although nothing went wrong"
	}
	return ""
}

func (l *ledger) printLine() {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := 0
	for _, n := range l.closed {
		total += n
	}
	fmt.Printf("%s open %d, closed %d, %.1f MiB, refused %d, problems %d\n",
		time.Now().Format(time.TimeOnly), len(l.open), total, float64(l.bytes)/(1<<20), l.refused, len(l.problems))
}

func (l *ledger) print() {
	l.printLine()
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, n := range l.closed {
		fmt.Printf("  %-14v %8d connections\n", kind(k), n)
	}
	for text, n := range l.errors {
		fmt.Printf("  %8d times %s\n", n, text)
	}
	fmt.Printf("  %8d connections that were gone before their first bytes came\n", l.strays)
	for _, p := range l.problems {
		fmt.Println("  PROBLEM:", p)
	}
}

// verdict returns the first problem.
func (l *ledger) verdict() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.problems) > 0:
		return fmt.Errorf("%d problems or more", len(l.problems))
	case len(l.open) > 0:
		return fmt.Errorf("%d accounts are open", len(l.open))
	}
	return nil
}
