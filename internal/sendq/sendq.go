// Package sendq is the backlog of a stream: bytes that were accepted and that
// the kernel has not taken yet.
package sendq

import "github.com/gostrand/strand/internal/bufpool"

// Queue is a byte queue made of pooled chunks. The zero Queue is empty and
// holds no memory. Its methods must not be called concurrently; the bytes
// that Head and Bufs return may be read while Append runs, because Append
// only writes behind them.
type Queue struct {
	head, tail *bufpool.Buffer
	size       int
}

// Len returns the number of bytes queued.
func (q *Queue) Len() int { return q.size }

// Append copies p to the end of the queue.
func (q *Queue) Append(p []byte) {
	q.size += len(p)
	for len(p) > 0 {
		if q.tail == nil || q.tail.W == len(q.tail.Data) {
			q.grow(len(p))
		}
		n := copy(q.tail.Data[q.tail.W:], p)
		q.tail.W += n
		p = p[n:]
	}
}

func (q *Queue) grow(n int) {
	// The longer the queue, the larger the chunk: a backlog that lives on
	// would otherwise be a long list of small pieces.
	b := bufpool.Get(min(max(n, q.size/4), bufpool.Large))
	if q.tail == nil {
		q.head = b
	} else {
		q.tail.Next = b
	}
	q.tail = b
}

// Head returns the first bytes of the queue, nil if there are none. They stay
// valid and unchanged until Consume or Reset.
func (q *Queue) Head() []byte {
	if q.head == nil {
		return nil
	}
	return q.head.Data[q.head.R:q.head.W]
}

// Bufs appends to dst up to limit leading chunks of the queue.
func (q *Queue) Bufs(dst [][]byte, limit int) [][]byte {
	for b := q.head; b != nil && len(dst) < limit; b = b.Next {
		dst = append(dst, b.Data[b.R:b.W])
	}
	return dst
}

// Consume removes the first n bytes, which must be there.
func (q *Queue) Consume(n int) {
	q.size -= n
	for n > 0 {
		b := q.head
		k := min(n, b.W-b.R)
		b.R += k
		n -= k
		if b.R == b.W {
			q.pop()
		}
	}
}

func (q *Queue) pop() {
	b := q.head
	q.head = b.Next
	if q.head == nil {
		q.tail = nil
	}
	bufpool.Put(b)
}

// Reset drops everything.
func (q *Queue) Reset() {
	for q.head != nil {
		q.pop()
	}
	q.size = 0
}
