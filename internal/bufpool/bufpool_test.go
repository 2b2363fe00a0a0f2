package bufpool

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A borrower gets the smallest size that holds what it asks for, and the
// largest one if none does.
func TestGetRoundsUp(t *testing.T) {
	for _, tt := range []struct{ ask, want int }{
		{0, Small}, {1, Small}, {Small, Small}, {Small + 1, Medium},
		{Medium, Medium}, {Medium + 1, Large}, {Large, Large}, {Large + 1, Large},
		{1 << 30, Large},
	} {
		b := Get(tt.ask)
		require.Len(t, b.Data, tt.want, "asked for %d", tt.ask)
		Put(b)
	}
}

// What comes from the pool is like new, but for its bytes.
func TestBorrowedBuffersAreClean(t *testing.T) {
	for range 100 {
		b := Get(Small)
		require.Equal(t, [2]int{0, 0}, [2]int{b.R, b.W})
		require.Nil(t, b.Next)
		b.R, b.W, b.Next = 1, 2, &Buffer{}
		Put(b)
	}
}

// Two borrowers never have the same memory.
func TestBorrowersDoNotShare(t *testing.T) {
	a, b := Get(Small), Get(Small)
	defer Put(a)
	defer Put(b)
	require.NotSame(t, &a.Data[0], &b.Data[0])
}

// A buffer whose Data was cut, or that was never ours, is not lent to anybody.
func TestForeignSizesAreDropped(t *testing.T) {
	odd := &Buffer{Data: make([]byte, Small-1)}
	Put(odd)
	for range 100 {
		b := Get(Small)
		require.Len(t, b.Data, Small)
		require.NotSame(t, odd, b)
	}
}
