package strand

import "time"

// receiveInto is receive for a BufferedProtocol: straight into its memory. The
// pair of callbacks is finished on p even if GetBuffer installs another
// protocol (SP-04). The caller has the turn.
func (s *stream) receiveInto(p BufferedProtocol, fd uintptr) bool {
	buf := s.bufferOf(p, -1)
	if len(buf) == 0 {
		s.emptyBuffer()
		return true // admit says what comes next
	}
	if s.tlsBegins() {
		return true
	}
	n, more, err := s.recv(fd, buf)
	if n > 0 {
		if s.tlsBegins() {
			s.leftOver(buf[:n])
			return true
		}
		s.updated(p, n)
	} else if s.gate.Load() { // GetBuffer, or somebody else, shut it
		s.receivedLate(nil, err)
		return true
	}
	return s.received(n, err) && !s.drained(more)
}

// bufferOf runs GetBuffer.
func (s *stream) bufferOf(p BufferedProtocol, hint int) []byte {
	if s.cfg.slow > 0 {
		defer s.d.logSlow(time.Now())
	}
	return p.GetBuffer(hint)
}

// emptyBuffer is a mistake of the protocol, and so it is logged (BP-04).
func (s *stream) emptyBuffer() {
	s.cfg.log.Error(errEmptyBuffer.Error(), "transport", s)
	s.fail(errEmptyBuffer)
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
// protocol, and returns the rest. A BufferedProtocol gets one buffer full of
// them, copied, with the number left as the hint (BP-07): what follows is a
// turn of its own, because BufferUpdated may pause, close or install another
// protocol. The caller has the turn.
func (s *stream) feed(p *binding, data []byte) (rest []byte) {
	if p.buffered == nil {
		s.deliver(p, data)
		return nil
	}
	buf := s.bufferOf(p.buffered, len(data))
	if len(buf) == 0 {
		s.emptyBuffer()
		return nil
	}
	if s.tlsBegins() {
		return data
	}
	n := copy(buf, data)
	s.updated(p.buffered, n)
	return data[n:]
}
