//go:build linux

package loadgen

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"time"
	"unsafe"
)

// answerLimit is the time after which a datagram counts as lost.
const answerLimit = 200 * time.Millisecond

// mmsghdr is the kernel's struct of that name.
type mmsghdr struct {
	hdr syscall.Msghdr
	len uint32
}

// A batch is the memory of one recvmmsg or sendmmsg.
type batch struct {
	msgs []mmsghdr
	iovs []syscall.Iovec
	data [][]byte
}

func newBatch(n, size int) *batch {
	b := &batch{make([]mmsghdr, n), make([]syscall.Iovec, n), make([][]byte, n)}
	for i := range n {
		b.data[i] = make([]byte, size)
		b.iovs[i].Base = &b.data[i][0]
		b.iovs[i].SetLen(size)
		b.msgs[i].hdr.Iov = &b.iovs[i]
		b.msgs[i].hdr.Iovlen = 1
	}
	return b
}

func (b *batch) transfer(call uintptr, fd, n int, flags uintptr) (int, error) {
	done, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])), uintptr(n), flags, 0, 0)
	switch errno {
	case 0:
		return int(done), nil
	case syscall.EAGAIN, syscall.EINTR:
		return 0, nil
	}
	return 0, errno
}

// A slot is one outstanding datagram.
type slot struct {
	number uint64
	began  time.Duration
	sent   time.Duration // later than began if it was sent again
}

// A datagrams endpoint is one connected UDP socket with depth outstanding
// datagrams; number n belongs in slot n modulo depth.
type datagrams struct {
	l       *loop
	fd      int
	base    uint64
	slots   []slot
	in, out *batch // in has room for one byte too many, to see what is too long
	queued  int    // filled messages of out
}

func (l *loop) openDatagrams(id int) (*datagrams, error) {
	fd, err := dial(l.cfg.Net, l.cfg.Addr, id)
	if err != nil {
		return nil, err
	}
	d := &datagrams{
		l: l, fd: fd, base: startOf(id),
		slots: make([]slot, l.cfg.Depth),
		in:    newBatch(l.cfg.Depth, l.cfg.Size+1),
		out:   newBatch(l.cfg.Depth, l.cfg.Size),
	}
	return d, l.add(fd, d)
}

func (d *datagrams) close() { syscall.Close(d.fd) }

func (d *datagrams) body(number uint64) []byte {
	return d.l.pattern.at(d.base+number*uint64(d.l.cfg.Size), d.l.cfg.Size-datagramHeader)
}

// enqueue puts the datagram of a slot into out.
func (d *datagrams) enqueue(s *slot) {
	p := d.out.data[d.queued]
	binary.LittleEndian.PutUint64(p, s.number)
	copy(p[datagramHeader:], d.body(s.number))
	s.sent = d.l.now
	d.queued++
}

// flush sends what is queued. What the kernel refuses is found lost later.
func (d *datagrams) flush() error {
	if d.queued == 0 {
		return nil
	}
	_, err := d.out.transfer(sysSendmmsg, d.fd, d.queued, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	d.queued = 0
	return err
}

// begin fills all slots.
func (d *datagrams) begin() error {
	for i := range d.slots {
		d.slots[i] = slot{number: uint64(i), began: d.l.now}
		d.enqueue(&d.slots[i])
	}
	return d.flush()
}

func (d *datagrams) ready(uint32) error {
	n, err := d.in.transfer(syscall.SYS_RECVMMSG, d.fd, len(d.slots), syscall.MSG_DONTWAIT)
	if err != nil {
		return err
	}
	d.l.tick()
	for i := range n {
		if err := d.take(d.in.data[i][:d.in.msgs[i].len]); err != nil {
			return err
		}
	}
	return d.flush()
}

// take verifies an answer and queues the next datagram of its slot.
func (d *datagrams) take(p []byte) error {
	if len(p) != d.l.cfg.Size {
		return fmt.Errorf("a datagram of %d bytes came back with %d", d.l.cfg.Size, len(p))
	}
	number := binary.LittleEndian.Uint64(p)
	if string(p[datagramHeader:]) != string(d.body(number)) {
		return fmt.Errorf("wrong bytes in datagram %d", number)
	}
	s := &d.slots[number%uint64(len(d.slots))]
	if s.number != number {
		return nil // the late answer to a datagram that was sent again
	}
	d.l.completed(s.began)
	s.number += uint64(len(d.slots))
	s.began = d.l.now
	d.enqueue(s)
	return nil
}

// resend sends again what has had no answer for too long.
func (d *datagrams) resend() error {
	for i := range d.slots {
		if d.l.now-d.slots[i].sent > answerLimit {
			d.l.lost++
			d.enqueue(&d.slots[i])
		}
	}
	return d.flush()
}

// A resender looks for lost datagrams now and then.
type resender struct {
	l       *loop
	sockets []*datagrams
	next    time.Duration
}

func (r *resender) tick() (time.Duration, error) {
	if r.l.now < r.next {
		return r.next - r.l.now, nil
	}
	r.next = r.l.now + answerLimit/4
	for _, d := range r.sockets {
		if err := d.resend(); err != nil {
			return 0, err
		}
	}
	return answerLimit / 4, nil
}

func (l *loop) datagram() (Result, error) {
	r := &resender{l: l}
	for i := range l.cfg.Conns {
		d, err := l.openDatagrams(i)
		if err != nil {
			return Result{}, err
		}
		r.sockets = append(r.sockets, d)
		if err := d.begin(); err != nil {
			return Result{}, err
		}
	}
	return l.measureEndless(r)
}
