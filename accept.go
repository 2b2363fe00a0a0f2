package strand

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"
)

// Waiting times after an error that may come again at once, as in net/http: of an
// accept loop, and of a datagram endpoint that receives.
const (
	minErrorDelay = 5 * time.Millisecond
	maxErrorDelay = time.Second
)

// How a Server comes to its connections, and keeps account of them.

func (s *Server) acceptLoop(l *listener) {
	defer s.acceptLoopGone()
	var delay time.Duration
	for {
		conn, err := l.Accept()
		if err == nil {
			delay = 0
			if l.foreign { // its Accept may have done anything
				_ = setNoDelay(conn) // a conn that is broken says so when it is read
			}
			if !s.acquire() || !s.serve(conn, l.foreign) {
				conn.Close()
				return
			}
			continue
		}
		if s.isClosed() {
			return
		}
		if errors.Is(err, net.ErrClosed) {
			s.listenerLost(l, err)
			return
		}
		if errors.Is(err, syscall.ECONNABORTED) {
			continue // the client has thought better of it (SV-10)
		}
		delay = min(max(2*delay, minErrorDelay), maxErrorDelay)
		s.cfg.log.Error("strand: accept failed", "error", err, "address", l.addr, "retry in", delay)
		if !s.sleep(delay) {
			return
		}
	}
}

// listenerLost is called when somebody else has closed a listener: nothing will
// come from it again. A server without listeners is closed, as far as anybody
// can see, and so it closes.
func (s *Server) listenerLost(l *listener, err error) {
	s.cfg.log.Error("strand: a listener was closed by somebody else", "error", err, "address", l.addr)
	s.mu.Lock()
	i := slices.Index(s.listeners, l)
	if i < 0 { // Close has it
		s.mu.Unlock()
		return
	}
	s.listeners = slices.Delete(s.listeners, i, i+1)
	last := len(s.listeners) == 0
	if last {
		s.lost = fmt.Errorf("strand: the server has no listener left: %w", err)
	}
	s.mu.Unlock()
	s.closeListener(l)
	if last {
		s.Close()
	}
}

// acceptLoopGone is the end of whatever accepting counts.
func (s *Server) acceptLoopGone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepting--
	s.finishLocked()
}

// sleep waits for d and reports false if the server is closed before.
func (s *Server) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closed:
		return false
	}
}

func (s *Server) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// acquire takes a connection's slot, waiting for a free one, and reports false
// if the server is closed before.
func (s *Server) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.state < serverClosed && s.fullLocked() {
		if s.slot == nil {
			s.slot = make(chan struct{})
		}
		slot := s.slot
		s.mu.Unlock()
		select {
		case <-slot:
		case <-s.closed:
		}
		s.mu.Lock()
	}
	if s.state >= serverClosed {
		return false
	}
	s.count++
	return true
}

func (s *Server) fullLocked() bool {
	return s.opts.MaxConnections > 0 && s.count >= s.opts.MaxConnections
}

// release gives a slot back.
func (s *Server) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked()
}

func (s *Server) releaseLocked() {
	s.count--
	if s.slot != nil {
		close(s.slot)
		s.slot = nil
	}
	s.finishLocked()
}

// serve starts a connection, whose slot is taken; shared says that others may
// have conn, too. It gives the slot back and returns false if the server was
// closed meanwhile: Shutdown, which has looked at the list already, would wait
// for the connection without asking it to end.
func (s *Server) serve(conn net.Conn, shared bool) bool {
	c := newStream(conn, s.cfg)
	c.server, c.shared = s, shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state >= serverClosed {
		s.releaseLocked()
		return false
	}
	c.next = s.first
	if s.first != nil {
		s.first.prev = c
	}
	s.first = c
	if s.tls != nil {
		c.secure(s.tls)
	}
	go c.run()
	return true
}

// detach is the end of a connection.
func (s *Server) detach(c *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.next != nil {
		c.next.prev = c.prev
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.first = c.next
	}
	c.next, c.prev = nil, nil
	s.releaseLocked()
}

// streams returns the connections there are, newest first.
func (s *Server) streams() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*stream
	for c := s.first; c != nil; c = c.next {
		list = append(list, c)
	}
	return list
}

// What a stream does for its server.

// produce has the factory make the protocol of an accepted connection, on the
// connection's own goroutine.
func (s *stream) produce() bool {
	p, err := s.server.factory()
	if err != nil {
		s.rejected(err)
		return false
	}
	s.proto.Store(bind(p))
	return true
}

func (s *stream) rejected(err error) {
	s.cfg.log.Error("strand: no protocol for a connection", "error", err, "transport", s)
	s.fail(err)
}

// abortUnfinished aborts a connection whose ConnectionMade is still to come
// because of a handshake.
func (s *stream) abortUnfinished() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.phase == opening && s.upgradingLocked() && s.life.abort() {
		s.endedLocked()
	}
}

func (s *stream) requestShutdown() {
	s.mu.Lock()
	made := s.life.made
	s.mu.Unlock()
	if made { // before, there may be no protocol, and ConnectionMade comes first
		if _, ok := s.Protocol().(ShutdownRequester); ok && s.CallSoon(s.shutdownRequested) {
			return
		}
	}
	s.Close()
}

// shutdownRequested asks whoever is the protocol when it is the request's turn
// (SP-01).
func (s *stream) shutdownRequested() {
	if p, ok := s.Protocol().(ShutdownRequester); ok {
		p.ShutdownRequested()
	} else {
		s.Close()
	}
}

func (s *stream) info() ConnectionInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ConnectionInfo{
		LocalAddr:  s.local,
		RemoteAddr: s.remote,
		State:      s.life.phase.String(),
		Age:        time.Since(time.Unix(0, s.created)),
		Buffered:   s.flow.size,
		Created:    string(s.origin),
	}
}
