package strandtest

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gostrand/strand"
)

// patience returns how long the package waits for what has to come. It is a
// bound for broken transports: nothing passes because it ran out. In a synctest
// bubble, where time is not real and begins in 2000, it is a year, so that the
// time limits of a connection come first.
func patience() time.Duration {
	if time.Now().Year() < 2020 {
		return 365 * 24 * time.Hour
	}
	return time.Minute
}

// Recorder is a Protocol that notes its callbacks, and then runs the hook that
// is set for each. Set the hooks before the connection is made. Its own
// methods, other than the callbacks, may be called from any goroutine, and the
// Await methods block.
type Recorder struct {
	OnMade   func(t strand.Transport)
	OnData   func(data []byte)
	OnEOF    func() (keepOpen bool) // nil: false
	OnPause  func()
	OnResume func()
	OnLost   func(err error)

	mu      sync.Mutex
	t       strand.Transport
	calls   []string
	run     int // the bytes of the last call, if that is DataReceived
	data    []byte
	lost    error
	changed chan struct{} // closed and replaced with every call; nil while nobody waits
}

func (r *Recorder) note(call string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
	r.run = 0
	r.tellLocked()
}

func (r *Recorder) tellLocked() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// ConnectionMade is noted as "ConnectionMade".
func (r *Recorder) ConnectionMade(t strand.Transport) {
	r.mu.Lock()
	r.t = t
	r.mu.Unlock()
	r.note("ConnectionMade")
	if r.OnMade != nil {
		r.OnMade(t)
	}
}

// DataReceived is noted as "DataReceived n", n being the number of bytes that
// came without another callback in between.
func (r *Recorder) DataReceived(data []byte) {
	r.mu.Lock()
	r.data = append(r.data, data...)
	if n := len(r.calls); n > 0 && r.run > 0 {
		r.calls = r.calls[:n-1]
	}
	r.run += len(data)
	r.calls = append(r.calls, "DataReceived "+strconv.Itoa(r.run))
	r.tellLocked()
	r.mu.Unlock()
	if r.OnData != nil {
		r.OnData(data)
	}
}

// EOFReceived is noted as "EOFReceived".
func (r *Recorder) EOFReceived() bool {
	r.note("EOFReceived")
	return r.OnEOF != nil && r.OnEOF()
}

// PauseWriting is noted as "PauseWriting".
func (r *Recorder) PauseWriting() {
	r.note("PauseWriting")
	if r.OnPause != nil {
		r.OnPause()
	}
}

// ResumeWriting is noted as "ResumeWriting".
func (r *Recorder) ResumeWriting() {
	r.note("ResumeWriting")
	if r.OnResume != nil {
		r.OnResume()
	}
}

// ConnectionLost is noted as "ConnectionLost" and, if there is one, the error.
func (r *Recorder) ConnectionLost(err error) {
	r.mu.Lock()
	r.lost = err
	r.mu.Unlock()
	call := "ConnectionLost"
	if err != nil {
		call += " " + err.Error()
	}
	r.note(call)
	if r.OnLost != nil {
		r.OnLost(err)
	}
}

// Transport returns what ConnectionMade was given, nil before.
func (r *Recorder) Transport() strand.Transport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.t
}

// Calls returns the callbacks so far.
func (r *Recorder) Calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Received returns all bytes so far.
func (r *Recorder) Received() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.data)
}

// Lost returns the argument of ConnectionLost, nil before.
func (r *Recorder) Lost() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// Await blocks until cond is true, which is asked after each callback and must
// not call methods of r other than through its argument. It fails the test if
// that takes more than a minute, in a synctest bubble a year.
func (r *Recorder) Await(t testing.TB, what string, cond func(calls []string, received int) bool) {
	t.Helper()
	timeout := time.NewTimer(patience())
	defer timeout.Stop()
	for {
		r.mu.Lock()
		ok := cond(r.calls, len(r.data))
		if !ok && r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			t.Fatalf("never happened: %s; the calls were %q", what, r.Calls())
		}
	}
}

// AwaitCall waits for n calls whose text begins with call.
func (r *Recorder) AwaitCall(t testing.TB, call string, n int) {
	t.Helper()
	r.Await(t, fmt.Sprintf("%d times %s", n, call), func(calls []string, _ int) bool {
		return countCalls(calls, call) >= n
	})
}

func countCalls(calls []string, call string) (n int) {
	for _, c := range calls {
		if strings.HasPrefix(c, call) {
			n++
		}
	}
	return n
}

// AwaitData waits for n bytes in all, and returns everything received.
func (r *Recorder) AwaitData(t testing.TB, n int) []byte {
	t.Helper()
	r.Await(t, fmt.Sprintf("%d bytes", n), func(_ []string, received int) bool { return received >= n })
	return r.Received()
}

// AwaitLost waits for ConnectionLost and returns its argument.
func (r *Recorder) AwaitLost(t testing.TB) error {
	t.Helper()
	r.AwaitCall(t, "ConnectionLost", 1)
	return r.Lost()
}

var _ strand.Protocol = (*Recorder)(nil)
