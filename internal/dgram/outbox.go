package dgram

import "sync"

// arenaSize is the room of an Outbox for data.
const arenaSize = 64 << 10

// Outbox is lent memory that collects datagrams, to send them with one call.
type Outbox struct {
	family Family
	arena  []byte
	ends   [Max]int // of the datagrams in arena
	to     [Max]Addr
	count  int // datagrams in it
	first  int // how many of them are gone
	out    vector
}

var outboxes = sync.Pool{New: func() any { return &Outbox{arena: make([]byte, arenaSize)} }}

// GetOutbox lends an empty Outbox.
func GetOutbox(f Family) *Outbox {
	o := outboxes.Get().(*Outbox)
	o.family = f
	return o
}

// PutOutbox takes o back.
func PutOutbox(o *Outbox) {
	o.count, o.first = 0, 0
	outboxes.Put(o)
}

func (o *Outbox) start(i int) int {
	if i == 0 {
		return 0
	}
	return o.ends[i-1]
}

func (o *Outbox) packet(i int) []byte { return o.arena[o.start(i):o.ends[i]] }

// Add copies a datagram into o, and reports false if there is no room for it.
func (o *Outbox) Add(p []byte, to *Addr) bool {
	if o.first == o.count {
		o.count, o.first = 0, 0
	}
	start := o.start(o.count)
	if o.count == Max || len(p) > arenaSize-start {
		return false
	}
	o.ends[o.count] = start + copy(o.arena[start:], p)
	o.to[o.count] = *to
	o.count++
	return true
}

// Len returns the number of datagrams left in o.
func (o *Outbox) Len() int { return o.count - o.first }

// Send sends until the kernel refuses a datagram, which is the first one left
// then, and the one that the error is about. It returns the number and the
// bytes of those it has sent.
func (o *Outbox) Send(fd uintptr) (n, size int, err error) {
	start := o.start(o.first)
	n, err = o.send(fd)
	o.first += n
	return n, o.start(o.first) - start, err
}

// Head returns the first datagram left, which must be there. It is valid until
// PutOutbox.
func (o *Outbox) Head() ([]byte, *Addr) { return o.packet(o.first), &o.to[o.first] }

// Pop removes the first datagram left.
func (o *Outbox) Pop() { o.first++ }
