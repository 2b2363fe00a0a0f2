// Package bufpool lends byte buffers of a few fixed sizes.
//
// The pools hold plain bytes and nothing that refers to a connection, so they
// may be shared by the whole process, also between testing/synctest bubbles.
package bufpool

import "sync"

// The sizes that are kept. Large is what a stream receives at once: with more
// the peer's next bytes wait while ours are worked on, and neither side is busy
// all the time.
const (
	Small  = 4 << 10
	Medium = 16 << 10
	Large  = 64 << 10
)

// Buffer is a lent piece of memory. Data always has its full size; R and W
// are for the borrower, who also owns Next.
type Buffer struct {
	Data []byte
	R, W int
	Next *Buffer
}

var pools = [...]struct {
	size int
	sync.Pool
}{{size: Small}, {size: Medium}, {size: Large}}

// Get returns a buffer of at least n bytes, or of Large bytes if n is more.
// Its contents are whatever the last borrower left.
func Get(n int) *Buffer {
	class := len(pools) - 1
	for i := range pools {
		if n <= pools[i].size {
			class = i
			break
		}
	}
	if b, ok := pools[class].Get().(*Buffer); ok {
		return b
	}
	return &Buffer{Data: make([]byte, pools[class].size)}
}

// Put takes b back. The caller must not touch b or its bytes afterwards.
func Put(b *Buffer) {
	b.R, b.W, b.Next = 0, 0, nil
	for i := range pools {
		if len(b.Data) == pools[i].size {
			pools[i].Put(b)
			return
		}
	}
}
