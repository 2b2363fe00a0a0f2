package strand

import "time"

// receiveInto is receive for a BufferedProtocol: straight into its memory. The
// pair of callbacks is finished on p even if GetBuffer installs another
// protocol (SP-04). The caller has the turn.
func (s *stream) receiveInto(p BufferedProtocol, fd uintptr) bool {
	buf := p.GetBuffer(-1)
	if len(buf) == 0 {
		s.fail(errEmptyBuffer)
		return true
	}
	n, more, err := s.recv(fd, buf)
	if n > 0 {
		s.updated(p, n)
	}
	return s.received(n, err) && more
}

// updated runs BufferUpdated.
func (s *stream) updated(p BufferedProtocol, n int) {
	s.countArrived(n)
	if s.cfg.slow > 0 {
		defer s.d.logSlow(time.Now())
	}
	p.BufferUpdated(n)
}

// feed hands over bytes that are already in memory, to either kind of
// protocol, and returns what it did not want any more. A BufferedProtocol gets
// them copied, buffer by buffer, with the number left as the hint (BP-07). The
// caller has the turn.
func (s *stream) feed(p *binding, data []byte) (rest []byte) {
	if p.buffered == nil {
		s.deliver(p, data)
		return nil
	}
	for len(data) > 0 && !s.unwanted() {
		buf := p.buffered.GetBuffer(len(data))
		if len(buf) == 0 {
			s.fail(errEmptyBuffer)
			return nil
		}
		n := copy(buf, data)
		s.updated(p.buffered, n)
		data = data[n:]
	}
	return data
}

// unwanted reports whether the rest of a chunk may not be delivered: the
// connection was closed, or goes on with TLS.
func (s *stream) unwanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life.isClosing() || s.upgradingLocked()
}
