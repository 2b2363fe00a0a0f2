package strand

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// SV-05: ConnectionInfo.State is the name of a phase, and its comment has them
// all.
func TestPhasesAreDocumented(t *testing.T) {
	source, err := os.ReadFile("server.go")
	require.NoError(t, err)
	_, comment, _ := strings.Cut(string(source), "// ConnectionInfo describes")
	comment, _, _ = strings.Cut(comment, "\ntype")
	for p := opening; p <= gone; p++ {
		require.Contains(t, comment, strconv.Quote(p.String()))
	}
}

var errLifecycle = errors.New("test error")

// The phase only ever moves down its list (law 1).
func TestPhaseOnlyAdvances(t *testing.T) {
	for from := opening; from <= gone; from++ {
		for to := opening; to <= gone; to++ {
			l := lifecycle{phase: from}
			moved := l.advance(to)
			require.Equal(t, to > from, moved, "%v to %v", from, to)
			require.Equal(t, max(from, to), l.phase, "%v to %v", from, to)
		}
	}
}

// CL-01: without output the end is decided at once, with output it waits.
func TestLifecycleClose(t *testing.T) {
	idle := lifecycle{phase: open}
	require.True(t, idle.close(false))
	require.Equal(t, ended, idle.phase)

	busy := lifecycle{phase: open}
	require.True(t, busy.close(true))
	require.Equal(t, closing, busy.phase)
	require.True(t, busy.isClosing(), "BT-07: from the first moment")
	require.True(t, busy.end(nil))
	require.True(t, busy.graceful())
}

// CL-02, CL-04, CL-06, CL-07: what happens first decides, whatever comes later.
func TestLifecycleFirstCauseWins(t *testing.T) {
	closeIdle := func(l *lifecycle) bool { return l.close(false) }
	closeBusy := func(l *lifecycle) bool { return l.close(true) }
	abort := (*lifecycle).abort
	fail := func(l *lifecycle) bool { return l.end(errLifecycle) }
	failFlushing := func(l *lifecycle) bool { return l.closeFailed(errLifecycle) }
	for _, tt := range []struct {
		name          string
		first, second func(*lifecycle) bool
		secondCounts  bool
		cause         error
		graceful      bool
	}{
		{"close twice", closeIdle, closeIdle, false, nil, true},
		{"close, abort", closeIdle, abort, false, nil, true},
		{"close, failure", closeIdle, fail, false, nil, true},
		{"abort, close", abort, closeIdle, false, nil, false},
		{"abort twice", abort, abort, false, nil, false},
		{"abort, failure", abort, fail, false, nil, false},
		{"failure, close", fail, closeBusy, false, errLifecycle, false},
		{"failure, abort", fail, abort, false, errLifecycle, false},
		{"failure twice", fail, func(l *lifecycle) bool { return l.end(errors.New("other")) }, false, errLifecycle, false},
		{"flushing failure, abort", failFlushing, abort, true, errLifecycle, false},
		{"flushing failure, failure", failFlushing, func(l *lifecycle) bool { return l.end(errors.New("other")) }, true, errLifecycle, false},
		{"flushing failure, its flush", failFlushing, func(l *lifecycle) bool { return l.end(nil) }, true, errLifecycle, false},
		{"flushing close, failure that flushes", closeBusy, failFlushing, true, nil, true},
		{"flushing close that failed, its flush", func(l *lifecycle) bool { return closeBusy(l) && failFlushing(l) }, func(l *lifecycle) bool { return l.end(nil) }, true, errLifecycle, false},
		{"flushing failure twice", failFlushing, func(l *lifecycle) bool { return l.closeFailed(errors.New("other")) }, false, nil, true},
		{"flushing close, abort", closeBusy, abort, true, nil, false},
		{"flushing close, failure", closeBusy, fail, true, errLifecycle, false},
		{"flushing close, close", closeBusy, closeIdle, false, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := lifecycle{phase: open}
			require.True(t, tt.first(&l), "the first changes something")
			require.Equal(t, tt.secondCounts, tt.second(&l))
			require.Equal(t, tt.cause, l.cause)
			require.Equal(t, tt.graceful, l.graceful())
			require.True(t, l.isClosing())
		})
	}
}

// WR-03: "after WriteEOF" is said before "closed", and "closed" names why.
func TestLifecycleRefusal(t *testing.T) {
	l := lifecycle{phase: open}
	require.NoError(t, l.refusal(false))

	l.sending = sendEOF
	require.ErrorIs(t, l.refusal(false), ErrWriteAfterEOF)
	l.end(nil)
	require.ErrorIs(t, l.refusal(false), ErrWriteAfterEOF)

	l = lifecycle{phase: open}
	l.close(true)
	require.ErrorIs(t, l.refusal(false), net.ErrClosed)

	l = lifecycle{phase: open}
	l.end(errLifecycle)
	require.ErrorIs(t, l.refusal(false), net.ErrClosed)
	require.ErrorIs(t, l.refusal(false), errLifecycle, "the cause stays visible")
}

// A random walk: whatever is called in whatever order, the phase never goes
// back, the cause never changes once it is fixed, and isClosing never returns
// to false (BT-07, CL-06).
func TestLifecycleAgainstLaws(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := lifecycle{}
		var decided *lifecycle // as it was when the end was decided
		for step := range 12 {
			before := l
			changed := lifecycleStepAtRandom(r, &l)
			at := fmt.Sprintf("seed %d, step %d: %v to %v", seed, step, before.phase, l.phase)
			require.GreaterOrEqual(t, l.phase, before.phase, at)
			require.Equal(t, changed, l.phase != before.phase, at)
			if decided != nil {
				require.Equal(t, [2]any{decided.cause, decided.aborted}, [2]any{l.cause, l.aborted}, at)
			} else if l.phase >= ended {
				copied := l
				decided = &copied
			} else {
				require.NoError(t, l.cause, at)
				require.False(t, l.aborted, at)
			}
		}
	}
}

func lifecycleStepAtRandom(r *rand.Rand, l *lifecycle) (changed bool) {
	switch r.IntN(7) {
	case 0:
		return l.advance(open)
	case 1:
		return l.close(true)
	case 2:
		return l.close(false)
	case 3:
		return l.abort()
	case 4:
		return l.end(errLifecycle)
	case 5: // as the owner does: lost and gone only come after the end
		return l.phase >= ended && l.advance(lost)
	default:
		return l.phase >= lost && l.advance(gone)
	}
}

// The names are what Server.Connections shows.
func TestPhaseNames(t *testing.T) {
	var names []string
	for p := opening; p <= gone; p++ {
		names = append(names, p.String())
	}
	require.Equal(t, []string{"opening", "open", "closing", "shutting", "ended", "lost", "gone"}, names)
}
