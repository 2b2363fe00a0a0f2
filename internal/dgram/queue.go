package dgram

// Packet is one datagram on its way out.
type Packet[A any] struct {
	Data []byte
	To   A
}

// Queue is the backlog of an endpoint: datagrams that were accepted and that
// the kernel has not taken yet, oldest first. The zero Queue is empty and holds
// no memory.
type Queue[A any] struct {
	packets []Packet[A]
	head    int // the oldest; those before it are gone
}

// Len returns the number of datagrams queued.
func (q *Queue[A]) Len() int { return len(q.packets) - q.head }

// Push appends a private copy of a datagram.
func (q *Queue[A]) Push(p []byte, to A) {
	if q.head > len(q.packets)/2 && len(q.packets) == cap(q.packets) { // so rarely that a move costs little per datagram
		n := copy(q.packets, q.packets[q.head:])
		clear(q.packets[n:])
		q.packets, q.head = q.packets[:n], 0
	}
	q.packets = append(q.packets, Packet[A]{append(make([]byte, 0, len(p)), p...), to})
}

// Head returns the oldest datagram, which must be there.
func (q *Queue[A]) Head() *Packet[A] { return &q.packets[q.head] }

// Pop removes the oldest datagram, which must be there.
func (q *Queue[A]) Pop() {
	q.packets[q.head] = Packet[A]{}
	if q.head++; q.head == len(q.packets) {
		q.Reset()
	}
}

// Reset drops everything, memory included.
func (q *Queue[A]) Reset() { *q = Queue[A]{} }
