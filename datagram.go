package strand

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gostrand/strand/internal/bufpool"
	"github.com/gostrand/strand/internal/dgram"
)

// endpoint is the transport of datagrams: a base with a protocol of that kind,
// a way to receive, which is here, and a way to send (sendto.go).
//
// Where the system can receive many datagrams with one call, the reader does,
// and hands them over one by one. The answers to such a batch are collected and
// sent with one call at its end.
type endpoint struct {
	base

	// Fixed before the reader starts.
	conn      net.PacketConn
	family    dgram.Family // None: conn is only used through its methods
	only      net.Addr     // the one address that may be sent to, nil: any
	peer      target       // the same
	connected bool         // the kernel knows it
	file      socketFile   // to be removed at the end

	proto atomic.Pointer[DatagramProtocol]

	// Used by the reader alone.
	batch       *dgram.Batch
	next, count int   // the datagrams of batch that are not delivered yet
	more        bool  // there may be more than batch holds
	behind      error // came behind the datagrams of batch
	peers       peerCache
	failures    int // of receiving in a row, none of which had to be waited for

	out      dgram.Queue[target] // mu
	collect  collector           // mu
	retry    time.Duration       // mu; how long the writer last waited to try again, see retryLocked
	errs     []error             // mu; what ErrorReceived has to be told, oldest first
	dropped  int                 // mu; errors that were one too many, since the last such call
	telling  bool                // mu; somebody is about to tell them
	timedOut bool                // mu; the last WriteTo met a deadline
	rest     *time.Timer         // mu; nil, or opens the gate again: see backOff
}

// newEndpoint takes pc over. The caller starts run.
func newEndpoint(pc net.PacketConn, p DatagramProtocol, cfg *config) *endpoint {
	e := &endpoint{conn: pc}
	e.owner, e.cfg = e, cfg
	e.local = pc.LocalAddr()
	e.raw, e.family = dgram.Of(pc)
	if c, ok := pc.(net.Conn); ok && !isNil(c.RemoteAddr()) {
		e.remote = c.RemoteAddr()
		e.connected = true
		e.sendOnlyTo(e.remote)
	}
	e.proto.Store(&p)
	e.init()
	return e
}

// sendOnlyTo makes addr the default, and the only one.
func (e *endpoint) sendOnlyTo(addr net.Addr) {
	if e.peer, _ = e.targetOf(addr); e.connected {
		e.peer.foreign = nil // a conn that knows its peer has a Write for it
	}
	e.only = addr
}

// owner

func (e *endpoint) protocol() BaseProtocol { return *e.proto.Load() }

func (e *endpoint) prepare() bool { return true }

func (e *endpoint) heldLocked() (held, busy bool) { return e.rest != nil, false }

func (e *endpoint) endDecidedLocked() {
	if e.rest != nil {
		e.rest.Stop()
	}
}

func (e *endpoint) winding() {}

func (e *endpoint) lostInTurn() {}

func (e *endpoint) read() {
	if e.raw == nil {
		e.readPortable()
	} else {
		e.readPolled()
	}
}

func (e *endpoint) connectionMade() {
	e.d.timed(func() { (*e.proto.Load()).ConnectionMade(e) })()
}

func (e *endpoint) descriptor() descriptor { return e.conn }

func (e *endpoint) closeDescriptor() error {
	return errors.Join(e.file.remove(), e.conn.Close())
}

func (e *endpoint) released() {
	if e.batch != nil {
		e.putBatch()
	}
}

// receive hands over one datagram, after it has received a batch if there is
// none left. The caller has the turn.
func (e *endpoint) receive(fd uintptr) bool {
	if e.batch == nil {
		if !e.receiveBatch(fd) {
			return e.more
		}
		if e.gate.Load() {
			return true // somebody else shut it meanwhile: the batch has to wait
		}
	}
	if e.next == e.count { // all that is left is an error
		e.batchDone()
		return e.receiveFailed(e.behind)
	}
	i := e.next
	e.next++
	if data, cut := e.batch.Data(i); cut {
		e.receiveError(syscall.EMSGSIZE)
	} else {
		e.deliver(data, e.sender(i))
	}
	if e.next == e.count && e.behind == nil {
		e.batchDone()
		return e.more
	}
	return true
}

// receiveBatch gets new datagrams. If there are none, more tells whether it
// makes sense to ask again.
func (e *endpoint) receiveBatch(fd uintptr) bool {
	b := dgram.GetBatch(e.family)
	n, more, err := b.Recv(fd)
	if n == 0 {
		dgram.PutBatch(b)
		e.more = e.receiveFailed(err)
		return false
	}
	// While several were worked on, more have come: to look is cheaper than to
	// wait.
	e.batch, e.next, e.count, e.more, e.behind = b, 0, n, more || n > 1, err
	e.failures = 0
	if n > 1 {
		e.startCollecting()
	}
	return true
}

func (e *endpoint) batchDone() {
	if e.count > 1 {
		e.mu.Lock()
		e.flushLocked()
		e.mu.Unlock()
	}
	e.putBatch()
}

func (e *endpoint) putBatch() {
	dgram.PutBatch(e.batch)
	e.batch = nil
}

// sender is the address of datagram i of the batch. It is nil for an unnamed
// Unix socket.
func (e *endpoint) sender(i int) net.Addr {
	if e.family == dgram.Unix {
		return e.peers.unix(e.batch.Path(i))
	}
	return e.peers.udp(e.batch.From(i))
}

// deliver hands a datagram to the protocol. The caller has the turn.
func (e *endpoint) deliver(data []byte, from net.Addr) {
	e.countArrived(len(data) + 1) // an empty one is activity too
	p := *e.proto.Load()
	if e.cfg.debug {
		e.deliverDebug(p, data, from)
		return
	}
	p.DatagramReceived(data, from)
}

func (e *endpoint) deliverDebug(p DatagramProtocol, data []byte, from net.Addr) {
	e.d.timed(func() { p.DatagramReceived(data, from) })()
	for i := range data {
		data[i] = 0xDB // whoever kept the slice shall see that it was not theirs
	}
}

// receiveFailed looks at an error of receiving, and reports whether receiving
// goes on without waiting. The caller has the turn.
func (e *endpoint) receiveFailed(err error) bool {
	switch err {
	case syscall.EAGAIN:
		e.failures = 0
		return false
	case syscall.EBADF, syscall.ENOTSOCK, syscall.EINVAL, syscall.EFAULT: // they would come again and again
		e.fail(e.opError("read", err))
	default:
		e.receiveError(err)
		e.backOff()
	}
	return true
}

// receiveError tells the protocol. The caller has the turn.
func (e *endpoint) receiveError(err error) {
	e.d.timed(func() { (*e.proto.Load()).ErrorReceived(e.opError("read", err)) })()
}

// The portable path: any net.PacketConn, through its own ReadFrom.

func (e *endpoint) readPortable() {
	e.begin()
	for e.admit() {
		buf := bufpool.Get(bufpool.Large)
		n, from, err := e.readConn(buf.Data)
		if err == nil && n == len(buf.Data) {
			err = syscall.EMSGSIZE // only what has not filled the buffer is sure to be whole
		}
		e.take(buf.Data[:n], from, err)
		bufpool.Put(buf)
	}
}

// readConn is one ReadFrom.
func (e *endpoint) readConn(p []byte) (n int, from net.Addr, err error) {
	if !e.enterConn(false) {
		return 0, nil, os.ErrDeadlineExceeded
	}
	var start time.Time
	if e.failures > 0 {
		start = time.Now()
	}
	if udp, ok := e.conn.(*net.UDPConn); ok {
		n, from, err = e.readUDP(udp, p)
	} else {
		n, from, err = e.conn.ReadFrom(p)
	}
	if e.failures > 0 && time.Since(start) >= minErrorDelay {
		e.failures = 0
	}
	if woken := e.leaveConn(err); !woken && errors.Is(err, os.ErrDeadlineExceeded) {
		e.backOff() // not our deadline, and the next ReadFrom may meet it again
	}
	return n, from, err
}

// readUDP is ReadFrom that allocates no address for a peer just seen.
func (e *endpoint) readUDP(c *net.UDPConn, p []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(p)
	if err != nil {
		return 0, nil, err
	}
	peer, _ := dgram.FromAddrPort(from)
	return n, e.peers.udp(peer), nil
}

// take delivers what a ReadFrom brought as soon as reading is allowed: it may
// have been paused, or closed, meanwhile.
func (e *endpoint) take(data []byte, from net.Addr, err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return // a wake-up
	}
	for done := false; !done && e.admit(); {
		e.enter()
		if !e.gate.Load() {
			e.takeInTurn(data, from, err)
			done = true
		}
		e.leave()
	}
	if err != nil {
		e.backOff()
	} else {
		e.failures = 0
	}
}

func (e *endpoint) takeInTurn(data []byte, from net.Addr, err error) {
	switch {
	case err == nil:
		e.deliver(data, from)
	case errors.Is(err, net.ErrClosed) || err == io.EOF:
		e.fail(err)
	default:
		e.receiveError(err)
	}
}

// backOff shuts the gate for a while if there were many failures in a row: a
// descriptor that is broken for good would keep a processor busy. Errors that
// come now and then hold up nothing.
func (e *endpoint) backOff() {
	if e.failures++; e.failures <= 16 {
		return
	}
	delay := min(minErrorDelay<<min(e.failures-17, 10), maxErrorDelay)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.life.isClosing() {
		e.rest = time.AfterFunc(delay, e.rested)
		e.setGateLocked()
	}
}

func (e *endpoint) rested() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rest = nil
	e.setGateLocked()
	if e.parked != nil {
		e.wakeReaderLocked()
	}
}

// PauseReading also stops the collecting of answers, for the end of the batch
// may be far away now.
func (e *endpoint) PauseReading() {
	e.base.PauseReading()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flushLocked()
}

func (e *endpoint) SetProtocol(p DatagramProtocol) {
	if isNil(p) {
		panic("strand: SetProtocol(nil)")
	}
	e.proto.Store(&p)
}

func (e *endpoint) Protocol() DatagramProtocol { return *e.proto.Load() }

// peerCacheSize is how many addresses are kept, twice.
const peerCacheSize = 1024

// peerCache keeps the addresses of peers that were heard of lately, so that a
// datagram does not cost an address. When recent is full it becomes old, and
// what was old is forgotten.
type peerCache struct {
	recent, old peerAddrs
}

type peerAddrs struct {
	byIP   map[dgram.IPPort]*net.UDPAddr
	byPath map[string]*net.UnixAddr
}

func (c *peerCache) udp(key dgram.IPPort) net.Addr {
	a := c.recent.byIP[key]
	if a == nil {
		if a = c.old.byIP[key]; a == nil {
			a = key.UDPAddr()
		}
		c.room(len(c.recent.byIP))
		c.recent.byIP[key] = a
	}
	return a
}

func (c *peerCache) unix(path []byte) net.Addr {
	if len(path) == 0 {
		return nil
	}
	a := c.recent.byPath[string(path)]
	if a == nil {
		if a = c.old.byPath[string(path)]; a == nil {
			a = &net.UnixAddr{Name: string(path), Net: "unixgram"}
		}
		c.room(len(c.recent.byPath))
		c.recent.byPath[a.Name] = a
	}
	return a
}

// room makes room for one more address.
func (c *peerCache) room(used int) {
	if c.recent.byIP == nil || used == peerCacheSize {
		c.old = c.recent
		c.recent = peerAddrs{make(map[dgram.IPPort]*net.UDPAddr), make(map[string]*net.UnixAddr)}
	}
}

var (
	_ DatagramTransport = (*endpoint)(nil)
	_ owner             = (*endpoint)(nil)
)
