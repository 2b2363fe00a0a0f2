//go:build linux

package loadgen

import (
	"errors"
	"syscall"
	"time"
)

var errExcess = errors.New("more bytes came back than were sent")

// A stream is a connection that sends messages of the pattern and expects them
// back in order. Up to depth of them are in flight; streaming is nothing but
// large messages with a few in flight, so that a server without backpressure
// is not flooded.
type stream struct {
	l  *loop
	id int
	w  wire
	fd int

	// Positions in the stream of bytes.
	base     uint64 // where in the pattern this connection begins
	granted  uint64 // may be sent
	sent     uint64
	received uint64

	began    []time.Duration // of the messages in flight, a ring
	answered uint64          // messages that came back
	endless  bool            // an answer grants the next message
	blocked  bool            // waiting for EPOLLOUT
}

func (l *loop) openStream(source int) (*stream, error) {
	fd, err := dial(l.cfg.Net, l.cfg.Addr, source)
	if err != nil {
		return nil, err
	}
	id := len(l.endpoints)
	s := &stream{l: l, id: id, w: plainWire(fd), fd: fd, base: startOf(id), began: make([]time.Duration, l.ringSize())}
	if l.cfg.TLS {
		if s.w, err = newTLSWire(fd); err != nil {
			syscall.Close(fd)
			return nil, err
		}
	}
	return s, l.add(fd, s)
}

func (s *stream) close() { s.w.close() }

// inFlight is the number of messages granted and not yet answered.
func (s *stream) inFlight() int {
	return int(s.granted/uint64(s.l.cfg.Size) - s.answered)
}

// grant allows n more messages, which began at the given time.
func (s *stream) grant(n int, began time.Duration) {
	size := uint64(s.l.cfg.Size)
	for range n {
		s.began[s.granted/size%uint64(len(s.began))] = began
		s.granted += size
	}
}

// begin grants messages and sends them.
func (s *stream) begin(n int, began time.Duration) error {
	s.grant(n, began)
	return s.flush()
}

func (s *stream) ready(events uint32) error {
	if events&syscall.EPOLLOUT != 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if events&^syscall.EPOLLOUT == 0 {
		return nil
	}
	for {
		n, err := s.w.recv(s.l.buf)
		if err == errAgain {
			return nil
		}
		if err := eofIfZero(n, err); err != nil {
			return err
		}
		if err := s.take(s.l.buf[:n]); err != nil {
			return err
		}
		if s.w.drained() {
			return nil
		}
	}
}

// take verifies received bytes, counts the messages they complete and, in an
// endless run, sends as many new ones in one piece.
func (s *stream) take(p []byte) error {
	if s.received+uint64(len(p)) > s.sent {
		return errExcess
	}
	if err := s.l.pattern.check(s.base+s.received, p); err != nil {
		return err
	}
	s.received += uint64(len(p))
	s.l.tick()
	complete := s.received / uint64(s.l.cfg.Size)
	n := int(complete - s.answered)
	for ; s.answered < complete; s.answered++ {
		s.l.completed(s.began[s.answered%uint64(len(s.began))])
	}
	if !s.endless || n == 0 {
		return nil
	}
	return s.begin(n, s.l.now)
}

// flush sends what is granted, and asks for EPOLLOUT while the kernel refuses.
func (s *stream) flush() error {
	err := s.sendGranted()
	if err == nil {
		err = s.w.flush()
	}
	if err != nil && err != errAgain {
		return err
	}
	return s.waitWritable(err == errAgain)
}

func (s *stream) sendGranted() error {
	for s.sent < s.granted {
		n := min(s.granted-s.sent, maxChunk)
		sent, err := s.w.send(s.l.pattern.at(s.base+s.sent, int(n)))
		s.sent += uint64(sent)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) waitWritable(blocked bool) error {
	if blocked == s.blocked {
		return nil
	}
	s.blocked = blocked
	events := uint32(syscall.EPOLLIN)
	if blocked {
		events |= syscall.EPOLLOUT
	}
	return s.l.ep.control(syscall.EPOLL_CTL_MOD, s.fd, s.id, events)
}
