package streams

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// A buffer is a queue of bytes, whatever is appended and taken.
func TestBufferIsAQueue(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var b buffer
	var model []byte
	next := byte(0)
	for range 4_000 {
		if n := rnd.IntN(1 << rnd.IntN(17)); rnd.IntN(2) == 0 && len(model) < 1<<20 {
			p := make([]byte, n)
			for i := range p {
				p[i] = next
				next++
			}
			b.append(p)
			model = append(model, p...)
		} else {
			n = min(n, len(model))
			if rnd.IntN(2) == 0 {
				require.True(t, bytes.Equal(model[:n], b.take(n)))
			} else {
				require.True(t, bytes.Equal(model[:n], b.bytes()[:n]))
				b.consume(n)
			}
			model = model[n:]
		}
		require.Equal(t, len(model), b.len())
	}
	require.True(t, bytes.Equal(model, b.bytes()))
}

// A large block that was emptied is not kept, a small one is.
func TestBufferGivesMemoryBack(t *testing.T) {
	var b buffer
	b.append(make([]byte, 100))
	b.consume(100)
	require.Equal(t, 512, cap(b.block.data))
	b.append(make([]byte, keptSize+1))
	b.consume(keptSize + 1)
	require.Nil(t, b.block)
}

// A buffer that never becomes empty does not grow for ever.
func TestBufferReusesItsMemory(t *testing.T) {
	var b buffer
	b.append(make([]byte, 1000))
	for range 10_000 {
		b.append(make([]byte, 300))
		b.consume(300)
	}
	require.LessOrEqual(t, cap(b.block.data), 8<<10)
}

// What take gives away is not used again.
func TestTakeGivesAway(t *testing.T) {
	var b buffer
	b.append(bytes.Repeat([]byte{'a'}, 60_000))
	p := b.take(60_000)
	b.append(bytes.Repeat([]byte{'b'}, 60_000))
	require.True(t, bytes.Equal(bytes.Repeat([]byte{'a'}, 60_000), p))
}

func TestBlockSizes(t *testing.T) {
	for size, want := range map[int]int{0: 512, 1: 512, 512: 512, 513: 1024, 4096: 4096, 1 << 20: 1 << 20, 1<<20 + 1: 1 << 21} {
		b := getBlock(size)
		require.Equal(t, want, cap(b.data), size)
		b.free()
	}
}

func TestFindSeparators(t *testing.T) {
	far := bytes.Repeat([]byte{'.'}, 1000)
	tests := []struct {
		seps       []string
		in         string
		from       int
		start, end int
	}{
		{[]string{"b"}, "abab", 0, 1, 2},
		{[]string{"b"}, "abab", 2, 3, 4},
		{[]string{"b"}, "aaaa", 0, 0, 0},
		{[]string{"b", "aa"}, "xaab", 0, 1, 3},
		{[]string{"def", "bcde"}, "abcdefg", 0, 1, 5},
		{[]string{"a", "data"}, "..data", 0, 3, 4},
		{[]string{"ta", "data"}, "..data", 0, 4, 6},
		{[]string{"x", "yz"}, string(far) + "yz", 0, 1000, 1002},
		{[]string{"x", "yz"}, string(far) + "yz", 1000, 1000, 1002},
		{[]string{"x", "yz"}, string(far) + "yz", 1001, 0, 0},
		{[]string{"x", "yz"}, string(far), 0, 0, 0},
		{[]string{"x", "yz"}, "", 0, 0, 0},
	}
	// A match must be found wherever the windows meet.
	for i := range 20 {
		front := string(far[:window-10+i])
		tests = append(tests, struct {
			seps       []string
			in         string
			from       int
			start, end int
		}{[]string{"X", "longer"}, front + "longerX", 0, len(front), len(front) + 6})
	}
	for _, test := range tests {
		var given [][]byte
		for _, s := range test.seps {
			given = append(given, []byte(s))
		}
		seps, err := newSeparators(given)
		require.NoError(t, err)
		start, end := seps.find([]byte(test.in), test.from)
		require.Equal(t, [2]int{test.start, test.end}, [2]int{start, end}, "%q in %q", test.seps, test.in)
	}
}

// The caller's order of separators is the caller's.
func TestNewSeparatorsLeavesItsArgument(t *testing.T) {
	given := [][]byte{[]byte("long"), []byte("s")}
	_, err := newSeparators(given)
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("long"), []byte("s")}, given)
}
