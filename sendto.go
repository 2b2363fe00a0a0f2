package strand

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/gostrand/strand/internal/dgram"
)

const (
	// packetCost is what a queued datagram counts for beside its bytes, so that
	// a flood of empty ones pauses too (DG-17).
	packetCost = 8

	// maxCollected is the size up to which collecting an answer, which copies
	// it, is cheaper than a call of its own.
	maxCollected = 2048

	// collectLimit is half of the time that a collected answer may have to
	// wait for callbacks that take long.
	collectLimit = 2 * time.Millisecond

	// maxOwed is how many calls of ErrorReceived may be due before further
	// errors are dropped: they pile up only behind a callback that blocks.
	maxOwed = 1024

	// The waiting times of a writer that no event will wake.
	minRetry = 100 * time.Microsecond
	maxRetry = 10 * time.Millisecond
)

// target is where a datagram goes.
type target struct {
	addr    dgram.Addr // on the fast path
	foreign net.Addr   // on the portable one; nil: the connected peer
}

func (e *endpoint) SendTo(p []byte, addr net.Addr) error {
	to, err := e.targetOf(addr)
	return e.send(p, &to, err)
}

func (e *endpoint) SendToAddrPort(p []byte, addr netip.AddrPort) error {
	var to target
	var err error
	switch {
	case addr == (netip.AddrPort{}):
		to, err = e.targetOf(nil)
	case e.family == dgram.None:
		to, err = e.foreignTarget(net.UDPAddrFromAddrPort(addr))
	default:
		to, err = e.udpTarget(addr)
	}
	return e.send(p, &to, err)
}

// targetOf checks addr and brings it into the form that is sent to.
func (e *endpoint) targetOf(addr net.Addr) (target, error) {
	switch a := addr.(type) {
	case nil:
		return e.peerTarget()
	case *net.UDPAddr:
		switch {
		case a == nil:
			return e.peerTarget()
		case e.family == dgram.None:
			return e.foreignTarget(&net.UDPAddr{IP: slices.Clone(a.IP), Port: a.Port, Zone: a.Zone}) // the caller may change its own
		case !isUDP(a):
			return target{}, wrongAddr(a.String(), "not an address of UDP")
		}
		return e.udpTarget(a.AddrPort())
	case *net.UnixAddr:
		switch {
		case a == nil:
			return e.peerTarget()
		case e.family == dgram.None:
			return e.foreignTarget(&net.UnixAddr{Name: a.Name, Net: a.Net})
		}
		return e.unixTarget(a.Name)
	}
	if e.family != dgram.None {
		return target{}, wrongAddr(addr.String(), "not an address of this endpoint's network")
	}
	return e.foreignTarget(addr)
}

// isUDP reports whether a survives the conversion to a netip.AddrPort, which
// takes any other port for a port and any other IP for none.
func isUDP(a *net.UDPAddr) bool {
	size := len(a.IP)
	return a.Port == int(uint16(a.Port)) && (size == 0 || size == net.IPv4len || size == net.IPv6len)
}

// What is wrong with an address.
const (
	noSuchZone = "no such zone"
	notAPath   = "not a path of a socket"
)

func wrongAddr(addr, why string) error { return &net.AddrError{Err: why, Addr: addr} }

func (e *endpoint) peerTarget() (target, error) {
	if e.only == nil {
		return target{}, wrongAddr("", "missing address: this endpoint is not connected")
	}
	return e.peer, nil
}

// strange is the error for an address that is not the peer's.
func (e *endpoint) strange(addr string) error {
	return wrongAddr(addr, "this endpoint sends only to "+e.only.String())
}

func (e *endpoint) udpTarget(addr netip.AddrPort) (to target, err error) {
	ip, ok := dgram.FromAddrPort(addr)
	switch {
	case !ok:
		return to, wrongAddr(addr.String(), noSuchZone)
	case e.family == dgram.Unix:
		return to, wrongAddr(addr.String(), "not an address of this endpoint's network")
	case e.family == dgram.Inet4 && !ip.Is4():
		return to, wrongAddr(addr.String(), "not an IPv4 address")
	case e.only != nil && ip != e.peer.addr.IPPort:
		return to, e.strange(addr.String())
	}
	to.addr.IPPort = ip
	return to, nil
}

func (e *endpoint) unixTarget(name string) (to target, err error) {
	path, ok := dgram.Path(name)
	switch {
	case e.family != dgram.Unix:
		return to, wrongAddr(name, "not an address of this endpoint's network")
	case e.only != nil && path == e.peer.addr.Path: // also of a peer that has no name
	case !ok:
		return to, wrongAddr(name, notAPath)
	case e.only != nil:
		return to, e.strange(name)
	}
	to.addr.Path = path
	return to, nil
}

func (e *endpoint) foreignTarget(addr net.Addr) (target, error) {
	if e.only != nil {
		if addr.String() != e.only.String() {
			return target{}, e.strange(addr.String())
		}
		return e.peer, nil
	}
	return target{foreign: addr}, nil
}

// send accepts a datagram, unless its address is bad.
func (e *endpoint) send(p []byte, to *target, bad error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.life.refusal(false); err != nil {
		return err
	}
	if bad != nil {
		return bad
	}
	if e.cfg.max > 0 && e.flow.size > 0 && e.flow.size+len(p)+packetCost > e.cfg.max {
		return ErrBufferFull
	}
	if !e.collectLocked(p, to) && !e.trySendLocked(p, to) {
		e.queueLocked(p, to)
	}
	return nil
}

// busyLocked reports whether datagrams are queued: then all new ones go behind
// them.
func (e *endpoint) busyLocked() bool { return e.writing || e.out.Len() > 0 }

// trySendLocked tries the socket without blocking, and reports whether the
// datagram is done with: it is sent, or dropped because of an error, which is
// reported (DG-10).
func (e *endpoint) trySendLocked(p []byte, to *target) bool {
	if e.raw == nil || e.busyLocked() {
		return false
	}
	err := e.sendNowLocked(p, to)
	if err == syscall.EAGAIN {
		return false
	}
	e.sentLocked(len(p), to, err)
	return true
}

func (e *endpoint) sendNowLocked(p []byte, to *target) error {
	if e.fd >= 0 { // the reader is inside raw.Read, which keeps the descriptor open
		return dgram.Send(e.family, uintptr(e.fd), p, e.addressLocked(to))
	}
	return e.sendOutsideLocked(p, *to)
}

// sendOutsideLocked is a function of its own to keep the target of the others
// off the heap.
func (e *endpoint) sendOutsideLocked(p []byte, to target) (err error) {
	ferr := e.raw.Write(func(fd uintptr) bool {
		err = dgram.Send(e.family, fd, p, e.addressLocked(&to))
		return true
	})
	if ferr != nil {
		return syscall.EAGAIN // the writer will meet it again, and find out what it is
	}
	return err
}

// addressLocked is what the kernel has to be told of a target.
func (e *endpoint) addressLocked(to *target) *dgram.Addr {
	if e.connected {
		return nil
	}
	return &to.addr
}

// sentLocked counts a datagram that the kernel has taken, or reports why not.
func (e *endpoint) sentLocked(size int, to *target, err error) {
	if err != nil {
		e.reportLocked(e.sendError(to, err))
		return
	}
	e.sent += int64(size) + 1
}

// sendError dresses an error of a raw system call as package net does.
func (e *endpoint) sendError(to *target, err error) error {
	if e.raw == nil {
		return err // it comes from package net, or who knows where
	}
	op := &net.OpError{Op: "write", Net: e.local.Network(), Source: e.local, Err: os.NewSyscallError("sendto", err)}
	switch {
	case e.only != nil:
		op.Addr = e.only
	case e.family == dgram.Unix:
		op.Addr = &net.UnixAddr{Name: to.addr.Path, Net: "unixgram"}
	default:
		op.Addr = to.addr.UDPAddr()
	}
	return op
}

// reportLocked has ErrorReceived called right after the running callback, before
// anything else but a pause. A resume that the same datagram made due comes
// behind it (DG-13).
func (e *endpoint) reportLocked(err error) {
	if len(e.errs) == maxOwed {
		e.dropped++
		return
	}
	e.errs = append(e.errs, err)
	if !e.telling {
		e.telling, e.flow.holdResume = true, true
		e.d.postFirst(e.tellErrors)
	}
}

// tellErrors tells the errors that there are. Those that come meanwhile wait in
// line for another call, because a protocol may send again whenever it hears of
// an error, and shall hold up nobody. The caller has the turn.
func (e *endpoint) tellErrors() {
	e.mu.Lock()
	n := len(e.errs)
	e.mu.Unlock()
	for ; n > 0; n-- {
		(*e.proto.Load()).ErrorReceived(e.nextError())
		e.d.runEdges()
	}
	if dropped := e.errorsTold(); dropped > 0 && e.cfg.debug {
		e.cfg.log.Debug("strand: errors were dropped", "count", dropped, "transport", e)
	}
}

// errorsTold sees to it that the errors that came meanwhile are told, and
// returns how many were dropped.
func (e *endpoint) errorsTold() (dropped int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	dropped, e.dropped = e.dropped, 0
	if len(e.errs) > 0 {
		e.d.post(e.tellErrors)
		return dropped
	}
	e.telling, e.flow.holdResume = false, false
	e.edgesLocked()
	return dropped
}

func (e *endpoint) nextError() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.errs[0]
	e.errs = popFront(e.errs)
	return err
}

// queueLocked is the one place through which all datagrams pass that the kernel
// has not taken.
func (e *endpoint) queueLocked(p []byte, to *target) {
	e.out.Push(p, *to)
	e.flow.add(len(p) + packetCost)
	e.edgesLocked()
	e.startWriterLocked()
}

// What the writer goroutine does.

func (e *endpoint) writeLoop() {
	if e.raw == nil {
		e.writeUntilOver(e.writeConn)
	} else {
		e.writeUntilOver(e.writeRaw)
	}
}

func (e *endpoint) writeRaw() error { return e.raw.Write(e.onWritable) }

// onWritable sends until the backlog is empty, and returns false to wait for
// room.
func (e *endpoint) onWritable(fd uintptr) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.life.phase < ended && e.out.Len() > 0 {
		p := e.out.Head()
		err := dgram.Send(e.family, fd, p.Data, e.addressLocked(&p.To))
		if err == syscall.EAGAIN {
			e.retryLocked()
			return false
		}
		e.retry = 0
		e.drainedLocked(err)
	}
	return true
}

// retryLocked sees to it that the writer tries again. A Unix socket that is
// not connected counts as writable even while its receiver is full, so that no
// event tells when there is room.
func (e *endpoint) retryLocked() {
	if e.family == dgram.Unix && !e.connected {
		e.retry = min(max(2*e.retry, minRetry), maxRetry)
		e.conn.SetWriteDeadline(time.Now().Add(e.retry))
	}
}

// drainedLocked takes the oldest datagram off the backlog.
func (e *endpoint) drainedLocked(err error) {
	p := *e.out.Head()
	e.out.Pop()
	e.flow.sub(len(p.Data) + packetCost)
	e.sentLocked(len(p.Data), &p.To, err)
	e.edgesLocked()
}

// writeConn writes the oldest datagram of the backlog to a foreign conn.
func (e *endpoint) writeConn() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life.phase >= ended || e.out.Len() == 0 {
		return nil
	}
	p := *e.out.Head()
	err := e.inConnLocked(func() error { return e.writePacket(p.Data, p.To.foreign) })
	switch {
	case e.life.phase >= ended:
	case errors.Is(err, net.ErrClosed):
		e.endLocked(err)
	case errors.Is(err, os.ErrDeadlineExceeded) && !e.timedOut:
		e.timedOut = true
		e.conn.SetWriteDeadline(time.Time{}) // somebody else's; it means nothing to us
	default:
		e.timedOut = false
		e.drainedLocked(err)
	}
	return nil
}

func (e *endpoint) writePacket(p []byte, to net.Addr) error {
	var err error
	if to == nil {
		_, err = e.conn.(net.Conn).Write(p)
	} else {
		_, err = e.conn.WriteTo(p, to)
	}
	return err
}

func (e *endpoint) written(err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.life.phase >= ended:
		e.out.Reset()
		return e.writerGoneLocked()
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.conn.SetWriteDeadline(time.Time{}) // retryLocked's, or somebody else's
		return false
	case err != nil:
		e.endLocked(err)
		return false
	case e.out.Len() > 0:
		return false
	}
	if e.life.phase == closing {
		e.endLocked(nil)
	}
	return e.writerGoneLocked()
}

// Collecting.

// collector gathers the answers to a batch. Answers behind which a callback
// takes long are sent by a timer. It is not set for each of them: it comes now
// and then while batches follow each other, and looks whether the one it saw
// the last time is still there.
type collector struct {
	box   *dgram.Outbox // nil: nothing is collected
	batch uint32        // the number of the batch
	seen  uint32        // the number that the timer has seen
	armed bool
	timer *time.Timer
}

// startCollecting is called when a batch of several datagrams has come. A
// connected endpoint does not collect: of the errors that one call for several
// datagrams meets, the kernel tells only the first.
func (e *endpoint) startCollecting() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.only == nil && !e.gate.Load() {
		e.collect.batch++
		e.collect.box = dgram.GetOutbox(e.family)
	}
}

// collectLocked puts a datagram to the others of its batch and reports true,
// or sends those that must go before it.
func (e *endpoint) collectLocked(p []byte, to *target) bool {
	c := &e.collect
	if c.box == nil || e.busyLocked() {
		return false
	}
	if len(p) > maxCollected || !c.box.Add(p, &to.addr) {
		e.sendCollectedLocked()
		return false
	}
	if !c.armed {
		c.armed, c.seen = true, c.batch
		if c.timer == nil {
			c.timer = time.AfterFunc(collectLimit, e.collectedLong)
		} else {
			c.timer.Reset(collectLimit)
		}
	}
	return true
}

// collectedLong is the timer's.
func (e *endpoint) collectedLong() {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := &e.collect
	switch {
	case e.life.phase >= ended:
	case c.batch != c.seen:
		c.seen = c.batch
		c.timer.Reset(collectLimit)
		return
	default:
		e.flushLocked()
	}
	c.armed = false
}

// flushLocked sends what is collected and ends collecting.
func (e *endpoint) flushLocked() {
	if e.collect.box != nil {
		e.sendCollectedLocked()
		e.dropCollectedLocked()
	}
}

// sendCollectedLocked sends what is collected. The reader is inside raw.Read
// as long as there is a batch.
func (e *endpoint) sendCollectedLocked() {
	box := e.collect.box
	for box.Len() > 0 {
		n, size, err := box.Send(uintptr(e.fd))
		e.sent += int64(size + n)
		switch err {
		case nil:
		case syscall.EAGAIN:
			e.queueCollectedLocked(box)
		default:
			_, to := box.Head()
			e.reportLocked(e.sendError(&target{addr: *to}, err))
			box.Pop()
		}
	}
}

func (e *endpoint) queueCollectedLocked(box *dgram.Outbox) {
	for ; box.Len() > 0; box.Pop() {
		p, to := box.Head()
		e.queueLocked(p, &target{addr: *to})
	}
}

func (e *endpoint) dropCollectedLocked() {
	if e.collect.box != nil {
		dgram.PutOutbox(e.collect.box)
		e.collect.box = nil
	}
}

// owner

func (e *endpoint) flushOutputLocked() (pending bool) {
	e.flushLocked()
	return e.busyLocked()
}

func (e *endpoint) dropOutputLocked() {
	e.dropCollectedLocked()
	e.out.Reset()
}
