package sendq

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand/internal/bufpool"
	"github.com/gostrand/strand/internal/testkit"
)

// pattern is n bytes that tell their position from all nearby ones.
func pattern(start, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte((start + i) * 7 % 251)
	}
	return p
}

// contents is the whole queue.
func contents(q *Queue) []byte { return bytes.Join(q.Bufs(nil, 1<<30), nil) }

func TestZeroQueueIsEmpty(t *testing.T) {
	var q Queue
	require.Zero(t, q.Len())
	require.Nil(t, q.Head())
	require.Empty(t, q.Bufs(nil, 16))
	q.Consume(0)
	q.Reset()
	q.Append(nil)
	require.Zero(t, q.Len())
	require.Nil(t, q.Head(), "nothing was appended, so no memory is held")
}

// Append copies (WR-09): the caller may do with its slice what it likes.
func TestAppendCopies(t *testing.T) {
	var q Queue
	p := []byte("abc")
	q.Append(p)
	copy(p, "xyz")
	require.Equal(t, "abc", string(contents(&q)))
}

// The sizes around a chunk's end are where an off-by-one would show.
func TestChunkBoundaries(t *testing.T) {
	for _, n := range []int{
		1, bufpool.Small - 1, bufpool.Small, bufpool.Small + 1,
		bufpool.Large - 1, bufpool.Large, bufpool.Large + 1, 9*bufpool.Large + 1,
	} {
		var q Queue
		q.Append(pattern(0, n))
		q.Append(pattern(n, 10))
		require.Equal(t, n+10, q.Len(), "length %d", n)
		require.True(t, bytes.Equal(pattern(0, n+10), contents(&q)), "length %d", n)
		q.Consume(n)
		require.True(t, bytes.Equal(pattern(n, 10), contents(&q)), "length %d", n)
		q.Consume(10)
		require.Zero(t, q.Len())
		require.Nil(t, q.Head(), "an empty queue holds no memory")
	}
}

// Small writes share a chunk: a backlog of a million one-byte writes is not a
// list of a million buffers.
func TestSmallAppendsShareAChunk(t *testing.T) {
	var q Queue
	for i := range bufpool.Small {
		q.Append(pattern(i, 1))
	}
	require.Len(t, q.Bufs(nil, 10), 1)
	require.Equal(t, pattern(0, bufpool.Small), q.Head())
}

func TestBufsIsLimitedAndAppends(t *testing.T) {
	var q Queue
	q.Append(pattern(0, 5*bufpool.Large))
	all := q.Bufs(nil, 100)
	require.Greater(t, len(all), 2)
	first := []byte("mine")
	some := q.Bufs([][]byte{first}, 3)
	require.Len(t, some, 3, "limit counts what was there before")
	require.Equal(t, first, some[0])
	require.Equal(t, all[:2], some[1:])
}

// What Head returned may be read by a blocked Write while more is appended.
func TestHeadStaysWhileAppending(t *testing.T) {
	var q Queue
	q.Append(pattern(0, 100))
	head := q.Head()
	done := make(chan bool)
	go func() { done <- bytes.Equal(pattern(0, 100), head) }()
	q.Append(pattern(100, 2*bufpool.Large)) // the race detector watches
	require.True(t, <-done)
	require.True(t, bytes.Equal(pattern(0, 100), head))
}

func TestResetDropsEverything(t *testing.T) {
	var q Queue
	q.Append(pattern(0, 3*bufpool.Large))
	q.Consume(10)
	q.Reset()
	require.Zero(t, q.Len())
	require.Nil(t, q.Head())
	q.Append([]byte("again"))
	require.Equal(t, "again", string(contents(&q)))
}

// A random walk beside a plain slice.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var q Queue
		var model []byte
		written := 0
		for range 60 {
			if r.IntN(5) < 3 {
				n := r.IntN(1 << r.IntN(18))
				q.Append(pattern(written, n))
				model = append(model, pattern(written, n)...)
				written += n
			} else {
				n := r.IntN(len(model) + 1)
				q.Consume(n)
				model = model[n:]
			}
			require.Equal(t, len(model), q.Len(), "seed %d", seed)
			require.True(t, bytes.Equal(model, contents(&q)), "seed %d", seed)
		}
	}
}

// In its steady state the backlog lives off the pool.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector makes sync.Pool drop buffers at random")
	}
	var q Queue
	p := make([]byte, 1000)
	allocs := testing.AllocsPerRun(1000, func() {
		q.Append(p)
		q.Consume(len(p))
	})
	require.Zero(t, allocs)
}
