package streams

import (
	"math/bits"
	"sync"
)

// buffer holds what was received and not read yet. It is pure state: its owner
// locks. A buffer that has become empty gives its memory back to a pool, unless
// that is small, so that an idle connection holds next to nothing and a busy
// one allocates nothing.
type buffer struct {
	block *block // nil: never used, or given back
	off   int    // how much of block.data has been read
}

// block is memory of a power of two of bytes, of which len(data) are filled.
type block struct{ data []byte }

func (b *buffer) len() int { return len(b.bytes()) }

// bytes returns what is unread. It is valid until the next call of another
// method.
func (b *buffer) bytes() []byte {
	if b.block == nil {
		return nil
	}
	return b.block.data[b.off:]
}

func (b *buffer) append(p []byte) {
	if b.block == nil {
		b.block = getBlock(len(p))
	} else if cap(b.block.data)-len(b.block.data) < len(p) {
		b.makeRoom(len(p))
	}
	b.block.data = append(b.block.data, p...)
}

// makeRoom moves what is unread to the front, of the same memory if that moves
// no more than was read since the last time, otherwise of new memory so much
// larger that it will not be needed again soon: a byte moves a bounded number
// of times.
func (b *buffer) makeRoom(n int) {
	old, unread := b.block, b.bytes()
	if len(unread) <= b.off && len(unread)+n <= cap(old.data) {
		old.data = old.data[:copy(old.data, unread)]
	} else {
		b.block = getBlock(2*len(unread) + n)
		b.block.data = append(b.block.data, unread...)
		old.free()
	}
	b.off = 0
}

// consume forgets the first n bytes.
func (b *buffer) consume(n int) {
	if n == 0 {
		return
	}
	b.off += n
	if b.off < len(b.block.data) {
		return
	}
	b.off = 0
	if cap(b.block.data) > keptSize {
		b.block.free()
		b.block = nil
	} else {
		b.block.data = b.block.data[:0]
	}
}

// take removes the first n bytes and returns them as memory of the caller's:
// a large block that they fill at least by half, or else a copy.
func (b *buffer) take(n int) []byte {
	if n > keptSize && b.off == 0 && n == b.len() && 2*n >= cap(b.block.data) {
		p := b.block.data
		b.block = nil
		return p
	}
	p := make([]byte, n)
	copy(p, b.bytes())
	b.consume(n)
	return p
}

const (
	keptSize = 4 << 10 // up to this an empty buffer keeps its block

	minBits = 9  // the smallest block is 512 bytes
	maxBits = 20 // the largest that is pooled is 1 MiB
	classes = maxBits - minBits + 1
)

// pools holds blocks by size.
var pools [classes]sync.Pool

// classOf returns the smallest class whose blocks have room for size bytes.
func classOf(size int) int { return max(bits.Len(uint(max(size, 1)-1)), minBits) - minBits }

func getBlock(size int) *block {
	class := classOf(size)
	if class < classes {
		if b, ok := pools[class].Get().(*block); ok {
			return b
		}
	}
	return &block{make([]byte, 0, 1<<(minBits+class))}
}

func (b *block) free() {
	if class := classOf(cap(b.data)); class < classes {
		b.data = b.data[:0]
		pools[class].Put(b)
	}
}
