package dgram

import "sync"

// Max is how many datagrams one call takes.
const Max = 32

// slabSize is the memory of a batch. Of its addresses only those pages exist
// that datagrams have reached.
const slabSize = Max * (64 << 10)

// Batch is lent memory, and the datagrams received into it.
type Batch struct {
	family Family
	size   int    // of one buffer
	slab   []byte // the buffers
	in     inbox
}

var batches = sync.Pool{New: func() any { return &Batch{slab: make([]byte, slabSize)} }}

// GetBatch lends memory to receive into.
func GetBatch(f Family) *Batch {
	b := batches.Get().(*Batch)
	b.family, b.size = f, f.maxSize()
	return b
}

// PutBatch takes b back. The caller must not touch its datagrams afterwards.
func PutBatch(b *Batch) { batches.Put(b) }

// Recv receives as many datagrams as are there, and as b holds. If n is zero
// there is an error: syscall.EAGAIN if nothing is there. If n is positive there
// may be one, which came behind the datagrams. more is false if the next call
// could only return EAGAIN.
func (b *Batch) Recv(fd uintptr) (n int, more bool, err error) { return b.recv(fd) }

func (b *Batch) limit() int { return slabSize / b.size }

func (b *Batch) buffer(i int) []byte { return b.slab[i*b.size:][:b.size:b.size] }
