package strand

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// newFlow is a flowControl with the given marks.
func newFlow(t testing.TB, high, low int) *flowControl {
	t.Helper()
	var f flowControl
	require.NoError(t, f.setLimits(high, low))
	return &f
}

// takeEdges takes all that the protocol is to be told.
func takeEdges(f *flowControl) (told []edge) {
	for e := f.next(); e != noEdge; e = f.next() {
		told = append(told, e)
	}
	return told
}

// FC-01, FC-02: a negative mark is one that was not given.
func TestFlowLimits(t *testing.T) {
	const none = -1
	for _, tt := range []struct{ high, low, wantHigh, wantLow int }{
		{none, none, 65536, 16384},
		{10, none, 10, 2},
		{3, none, 3, 0},
		{none, 5, 20, 5},
		{0, none, 0, 0},
		{none, 0, 0, 0},
		{7, 7, 7, 7},
		{7, 0, 7, 0},
	} {
		t.Run(fmt.Sprintf("%d,%d", tt.high, tt.low), func(t *testing.T) {
			f := newFlow(t, 1000, 1) // what was set before is of no interest
			require.NoError(t, f.setLimits(tt.high, tt.low))
			require.Equal(t, [2]int{tt.wantHigh, tt.wantLow}, [2]int{f.high, f.low})
		})
	}
}

// FC-03: the error names both numbers, and nothing changes.
func TestFlowLimitsRefused(t *testing.T) {
	f := newFlow(t, 20, 10)
	f.add(15)
	err := f.setLimits(11, 12)
	require.ErrorContains(t, err, "11")
	require.ErrorContains(t, err, "12")
	require.Equal(t, [2]int{20, 10}, [2]int{f.high, f.low}, "the old limits stay")
	require.True(t, f.writable(), "and are still the ones in force")
}

// A step of a script for a flowControl, and what the protocol is told after it.
type flowStep struct {
	name string
	do   func(f *flowControl)
	want []edge
}

func flowAdd(n int, want ...edge) flowStep {
	return flowStep{fmt.Sprintf("add %d", n), func(f *flowControl) { f.add(n) }, want}
}

func flowSub(n int, want ...edge) flowStep {
	return flowStep{fmt.Sprintf("sub %d", n), func(f *flowControl) { f.sub(n) }, want}
}

func flowSet(high, low int, want ...edge) flowStep {
	return flowStep{fmt.Sprintf("set %d,%d", high, low), func(f *flowControl) { f.setLimits(high, low) }, want}
}

func TestFlowEdges(t *testing.T) {
	for _, tt := range []struct {
		name      string // the item it proves
		high, low int
		steps     []flowStep
	}{
		{"FC-04 exactly the high mark does not pause", 10, 5, []flowStep{flowAdd(10), flowAdd(1, pauseEdge)}},
		{"FC-06 pause is told once", 10, 5, []flowStep{flowAdd(11, pauseEdge), flowAdd(50), flowAdd(50)}},
		{"FC-07 exactly the low mark resumes", 10, 5, []flowStep{flowAdd(11, pauseEdge), flowSub(5), flowSub(1, resumeEdge), flowSub(5)}},
		{"FC-07 no resume without a pause", 10, 5, []flowStep{flowAdd(10), flowSub(10)}},
		{"FC-08 lower limits pause a buffer that is over", 10, 5, []flowStep{flowAdd(8), flowSet(7, 0, pauseEdge)}},
		{"FC-08 a buffer at the new limit goes on", 10, 5, []flowStep{flowAdd(8), flowSet(8, 0)}},
		{"FC-08 lower limits say nothing to a paused protocol", 10, 5, []flowStep{flowAdd(11, pauseEdge), flowSet(2, 1)}},
		{"FC-08 higher limits do not resume, progress does", 10, 5, []flowStep{flowAdd(11, pauseEdge), flowSet(100, 50), flowSub(1, resumeEdge)}},
		{"FC-09 high 0: any byte pauses, empty resumes", 0, 0, []flowStep{flowAdd(1, pauseEdge), flowAdd(1), flowSub(1), flowSub(1, resumeEdge)}},
		{"FC-09 low 0 resumes only when empty", 10, 0, []flowStep{flowAdd(11, pauseEdge), flowSub(10), flowSub(1, resumeEdge)}},
		{"FC-11 a new cycle after a resume", 10, 5, []flowStep{flowAdd(11, pauseEdge), flowSub(11, resumeEdge), flowAdd(11, pauseEdge)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFlow(t, tt.high, tt.low)
			for _, step := range tt.steps {
				step.do(f)
				require.Equal(t, step.want, takeEdges(f), step.name)
			}
		})
	}
}

// While the protocol is not listening at most a pair is kept for it: a callback
// that blocks for an hour shall not find an hour of history behind it.
func TestFlowEdgesCollapse(t *testing.T) {
	cycle := func(f *flowControl) { f.add(11); f.sub(11) }
	t.Run("whole cycles", func(t *testing.T) {
		f := newFlow(t, 10, 5)
		cycle(f)
		cycle(f)
		cycle(f)
		require.Equal(t, []edge{pauseEdge, resumeEdge}, takeEdges(f))
	})
	t.Run("ending in a pause", func(t *testing.T) {
		f := newFlow(t, 10, 5)
		cycle(f)
		f.add(11)
		require.Equal(t, []edge{pauseEdge}, takeEdges(f))
	})
	t.Run("a new pause takes the place of a resume that was not told", func(t *testing.T) {
		f := newFlow(t, 10, 5)
		f.add(11)
		require.Equal(t, []edge{pauseEdge}, takeEdges(f))
		f.sub(11)
		f.add(11)
		require.Empty(t, takeEdges(f), "the protocol has been paused all the time")
		f.sub(11)
		require.Equal(t, []edge{resumeEdge}, takeEdges(f))
	})
}

// DG-13: a resume can be held back, a pause cannot.
func TestFlowHoldResume(t *testing.T) {
	f := newFlow(t, 10, 5)
	f.add(11)
	f.sub(11)
	f.holdResume = true
	require.True(t, f.due())
	require.Equal(t, []edge{pauseEdge}, takeEdges(f))
	require.False(t, f.due())
	f.holdResume = false
	require.True(t, f.due())
	require.Equal(t, []edge{resumeEdge}, takeEdges(f))
}

// FC-05: writable answers at once, before anybody is told.
func TestFlowWritableAtOnce(t *testing.T) {
	f := newFlow(t, 10, 5)
	f.add(11)
	require.False(t, f.writable())
	require.True(t, f.due())
	f.sub(6)
	require.True(t, f.writable())
}

// FC-10: an end that throws output away tells nobody to go on.
func TestFlowDrop(t *testing.T) {
	f := newFlow(t, 10, 5)
	f.add(11)
	f.drop()
	require.Zero(t, f.size)
	require.False(t, f.due())
	require.Empty(t, takeEdges(f))
}

// flowModel is flow control as the contract's text has it, with the whole
// history of edges and no economy.
type flowModel struct {
	high, low, size int
	paused          bool
}

func (m *flowModel) settle(progress bool) {
	switch {
	case !m.paused && m.size > m.high:
		m.paused = true
	case m.paused && progress && m.size <= m.low:
		m.paused = false
	}
}

// A random walk beside the model: the state agrees after every step, and what
// the protocol is told alternates and, once it has been told everything, is
// where the model is. FC-04, FC-06, FC-07, FC-08.
func TestFlowAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := newFlow(t, 10, 5)
		m := &flowModel{high: 10, low: 5}
		told := noEdge
		for step := range 200 {
			flowStepAtRandom(r, f, m)
			at := fmt.Sprintf("seed %d, step %d", seed, step)
			require.Equal(t, *m, flowModel{f.high, f.low, f.size, f.paused}, at)
			if r.IntN(3) > 0 {
				continue // the protocol is busy
			}
			for _, e := range takeEdges(f) {
				require.NotEqual(t, told, e, "%s: edges alternate", at)
				require.False(t, told == noEdge && e == resumeEdge, "%s: the first edge is a pause", at)
				told = e
			}
			require.Equal(t, m.paused, told == pauseEdge, "%s: the protocol knows the state", at)
		}
	}
}

func flowStepAtRandom(r *rand.Rand, f *flowControl, m *flowModel) {
	switch n := r.IntN(8); {
	case n < 4:
		k := 1 + r.IntN(9)
		f.add(k)
		m.size += k
		m.settle(false)
	case n < 7 && m.size > 0:
		k := 1 + r.IntN(m.size)
		f.sub(k)
		m.size -= k
		m.settle(true)
	case n == 7:
		low := r.IntN(10)
		high := low + r.IntN(10)
		if f.setLimits(high, low) == nil {
			m.high, m.low = high, low
		}
		m.settle(false)
	}
}
