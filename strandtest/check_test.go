package strandtest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// judge is a testing.TB that notes failures, to test what tests tests.
type judge struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (j *judge) Helper()          {}
func (j *judge) Cleanup(f func()) { j.cleanups = append(j.cleanups, f) }
func (j *judge) Failed() bool     { return len(j.failures) > 0 }
func (j *judge) Errorf(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failures = append(j.failures, fmt.Sprintf(format, args...))
}

// verdict ends the judged test and returns what it found.
func (j *judge) verdict() string {
	for i := len(j.cleanups) - 1; i >= 0; i-- {
		j.cleanups[i]()
	}
	return strings.Join(j.failures, "\n")
}

// judged calls the callbacks of a checked Recorder as a broken transport might.
func judged(t *testing.T, calls func(p strand.Protocol, tr strand.Transport)) string {
	j := &judge{TB: t}
	calls(Check(j, new(Recorder)), NewTransport(strand.NopProtocol{}))
	return j.verdict()
}

func TestCheckAcceptsWhatIsRight(t *testing.T) {
	require.Empty(t, judged(t, func(p strand.Protocol, tr strand.Transport) {
		p.ConnectionMade(tr)
		p.DataReceived([]byte("x"))
		p.PauseWriting()
		p.ResumeWriting()
		p.PauseWriting()
		p.EOFReceived()
		p.ConnectionLost(nil)
	}))
}

func TestCheckFindsBrokenTransports(t *testing.T) {
	for want, calls := range map[string]func(p strand.Protocol, tr strand.Transport){
		"before ConnectionMade": func(p strand.Protocol, tr strand.Transport) { p.DataReceived([]byte("x")) },
		"came twice":            func(p strand.Protocol, tr strand.Transport) { p.ConnectionMade(tr); p.ConnectionMade(tr) },
		"after ConnectionLost": func(p strand.Protocol, tr strand.Transport) {
			p.ConnectionMade(tr)
			p.ConnectionLost(nil)
			p.EOFReceived()
		},
		"data came after EOFReceived": func(p strand.Protocol, tr strand.Transport) {
			p.ConnectionMade(tr)
			p.EOFReceived()
			p.DataReceived([]byte("x"))
		},
		"EOFReceived came twice": func(p strand.Protocol, tr strand.Transport) {
			p.ConnectionMade(tr)
			p.EOFReceived()
			p.EOFReceived()
		},
		"ResumeWriting first": func(p strand.Protocol, tr strand.Transport) { p.ConnectionMade(tr); p.ResumeWriting() },
		"twice in a row": func(p strand.Protocol, tr strand.Transport) {
			p.ConnectionMade(tr)
			p.PauseWriting()
			p.PauseWriting()
		},
		"of 0 bytes": func(p strand.Protocol, tr strand.Transport) { p.ConnectionMade(tr); p.DataReceived(nil) },
	} {
		require.Contains(t, judged(t, calls), want)
	}
}

// TestCheckFindsNestedCallbacks covers concurrent ones too: both are a callback
// that comes while another runs.
func TestCheckFindsNestedCallbacks(t *testing.T) {
	j := &judge{TB: t}
	r := new(Recorder)
	p := Check(j, r)
	r.OnData = func([]byte) { p.PauseWriting() }
	p.ConnectionMade(NewTransport(strand.NopProtocol{}))
	p.DataReceived([]byte("x"))
	require.Contains(t, j.verdict(), "PauseWriting came while DataReceived was running")
}

// keeper is a protocol that keeps what is not its own.
type keeper struct {
	strand.NopProtocol
	kept [][]byte
}

func (k *keeper) DataReceived(data []byte) { k.kept = append(k.kept, data) }

func TestCheckFindsAKeptSlice(t *testing.T) {
	j := &judge{TB: t}
	k := new(keeper)
	NewTransport(Check(j, k)).Feed("mine")
	require.Equal(t, "\xdb\xdb\xdb\xdb", string(k.kept[0]), "it is overwritten")
	require.Contains(t, j.verdict(), "keeps the slice")
	require.NotNil(t, k.kept)
}

// heedless writes whatever Write says, and pauses for ever.
type heedless struct {
	strand.NopProtocol
	t strand.Transport
}

func (h *heedless) ConnectionMade(t strand.Transport) { h.t = t }

func TestCheckFindsIgnoredErrors(t *testing.T) {
	for writes, want := range map[int]string{maxLateWrites: "", maxLateWrites + 1: "goes on writing"} {
		j := &judge{TB: t}
		h := new(heedless)
		tr := NewTransport(Check(j, h))
		tr.Close()
		for range writes {
			h.t.Write([]byte("x"))
		}
		tr.Run()
		if got := j.verdict(); want == "" {
			require.Empty(t, got)
		} else {
			require.Contains(t, got, want)
		}
	}
}

func TestCheckFindsForgottenResume(t *testing.T) {
	j := &judge{TB: t}
	h := new(heedless)
	tr := NewTransport(Check(j, h))
	h.t.PauseReading()
	tr.FeedError(errors.New("no use"))
	tr.Abort()
	tr.Run()
	require.Contains(t, j.verdict(), "never resumed")
}

// TestCheckFindsForgottenResumeOnAFake, which nobody has to close.
func TestCheckFindsForgottenResumeOnAFake(t *testing.T) {
	for resume, want := range map[bool]string{false: "never resumed", true: ""} {
		j := &judge{TB: t}
		h := new(heedless)
		NewTransport(Check(j, h))
		h.t.PauseReading()
		if resume {
			h.t.ResumeReading()
		}
		got := j.verdict()
		require.Equal(t, want != "", strings.Contains(got, "never resumed"), got)
	}
}

func TestCheckFollowsSetProtocol(t *testing.T) {
	j := &judge{TB: t}
	h, next := new(heedless), new(keeper)
	tr := NewTransport(Check(j, h))
	h.t.SetProtocol(next)
	require.Same(t, next, h.t.Protocol())
	require.Panics(t, func() { h.t.SetProtocol(nil) })
	tr.Feed("mine")
	require.Contains(t, j.verdict(), "keeps the slice")
	require.Len(t, next.kept, 1)
}

// able has every ability that a Protocol can have.
type able struct {
	bufferedRecorder
	asked bool
}

func (a *able) ShutdownRequested() { a.asked = true }

func TestCheckKeepsAbilities(t *testing.T) {
	for _, p := range []strand.Protocol{new(Recorder), new(bufferedRecorder), new(able)} {
		checked := Check(t, p)
		_, buffered := p.(strand.BufferedProtocol)
		_, stillBuffered := checked.(strand.BufferedProtocol)
		require.Equal(t, buffered, stillBuffered)
		_, shutdown := p.(strand.ShutdownRequester)
		requester, stillShutdown := checked.(strand.ShutdownRequester)
		require.Equal(t, shutdown, stillShutdown)
		if shutdown {
			requester.ShutdownRequested()
			require.True(t, p.(*able).asked)
		}
	}
}

func TestSeedIsTold(t *testing.T) {
	require.NotZero(t, Seed(t))
}

// TestCheckFindsTheSlicesOfTheDead: at the end of a test nobody else may hold
// the protocol any more.
func TestCheckFindsTheSlicesOfTheDead(t *testing.T) {
	j := &judge{TB: t}
	NewTransport(Check(j, new(keeper))).Feed("mine")
	require.Contains(t, j.verdict(), "keeps the slice")
}
