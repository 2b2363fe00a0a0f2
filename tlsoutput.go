package strand

import (
	"cmp"
	"errors"

	"github.com/gostrand/strand/internal/bufpool"
)

// ciphertext is the output of a stream that has TLS: how much of it is the
// user's, for the rest is what TLS has to say, and what is to be done if it
// cannot go out. The stream's mu guards it.
type ciphertext struct {
	userEnd int64 // what sent is when all that the user wrote is out
	saidBye bool  // our close_notify is sent, or queued
	shaking bool  // a handshake computes, and does not wait for the peer
	broken  error // output has failed, and the end is still to come

	corked bool      // it is gathered in the backlog, and not counted yet
	vec    [4][]byte // memory for uncork

	answers  int   // bytes sent in answer to the peer behind a backlog
	answered int64 // what sent is when the first of them is out
}

const (
	maxPlaintext = 16 << 10  // what one record holds
	surePiece    = 1 << 10   // one record even at the beginning, when crypto/tls makes small ones
	fullRecords  = 128 << 10 // when crypto/tls has sent so much, it fills the records
	maxCorked    = 128 << 10 // as much goes out together
)

// writeTLS is Write and WriteLines through TLS.
func (s *stream) writeTLS(bufs ...[]byte) (int, error) {
	size := 0
	for _, b := range bufs {
		size += len(b)
	}
	c := s.sec // set before, and never changed
	c.encrypt.Lock()
	defer c.encrypt.Unlock()
	s.mu.Lock()
	err := s.acceptLocked(size)
	switch {
	case err != nil || size == 0:
		s.mu.Unlock()
		return 0, err
	case c.up != nil:
		for _, b := range bufs {
			c.up.early.Append(b)
		}
		s.flow.add(size)
		s.edgesLocked()
		s.mu.Unlock()
		return size, nil
	}
	top := c.top
	cork := !top.oneRecord(size) && !s.backlogLocked()
	c.corked = cork
	s.mu.Unlock()
	err = s.encryptInto(top, bufs...)
	if cork {
		err = cmp.Or(s.uncork(), err)
	}
	if err != nil {
		return 0, err
	}
	return size, nil
}

// encryptInto sends user data through a layer. The caller holds the lock for
// encrypting. If it fails, the connection is over: crypto/tls is of no use any
// more.
func (s *stream) encryptInto(l *tlsLayer, bufs ...[]byte) error {
	s.sec.encrypting.Add(1)
	err := l.write(bufs)
	s.sec.encrypting.Add(-1)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(err)
	return closedError{s.life.cause}
}

// oneRecord reports whether size bytes will very likely be one record.
func (l *tlsLayer) oneRecord(size int) bool {
	return size <= surePiece || size <= maxPlaintext && l.wire.sent >= fullRecords
}

// uncork sends what was gathered: the records of one Write go out together.
func (s *stream) uncork() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.uncorkLocked()
	s.sec.corked = false
	return err
}

// uncorkLocked sends what was gathered, and goes on gathering if the kernel
// takes it all. What is left is a backlog like any other.
func (s *stream) uncorkLocked() error {
	if !s.sec.corked || s.life.phase >= ended {
		return nil
	}
	for s.out.Len() > 0 {
		bufs := s.out.Bufs(s.sec.vec[:0], len(s.sec.vec))
		n, err := s.sendvLocked(bufs)
		if err != nil {
			return closedError{err}
		}
		s.out.Consume(n)
		if n == 0 {
			s.sec.corked = false
			s.queuedLocked(s.out.Len())
			break
		}
	}
	clear(s.sec.vec[:])
	return nil
}

// sendRecordLocked takes what crypto/tls has made.
func (s *stream) sendRecordLocked(p []byte) error {
	if !s.sec.corked {
		_, err := s.transmitLocked(p)
		return err
	}
	s.out.Append(p)
	if s.out.Len() < maxCorked {
		return nil
	}
	return s.uncorkLocked()
}

// write encrypts the pieces, small ones together.
func (l *tlsLayer) write(bufs [][]byte) error {
	if len(bufs) == 1 {
		_, err := l.conn.Write(bufs[0])
		return err
	}
	record := bufpool.Get(maxPlaintext)
	defer bufpool.Put(record)
	n := 0
	for _, b := range bufs {
		for len(b) > 0 {
			k := copy(record.Data[n:maxPlaintext], b)
			b, n = b[k:], n+k
			if n == maxPlaintext {
				if _, err := l.conn.Write(record.Data[:n]); err != nil {
					return err
				}
				n = 0
			}
		}
	}
	_, err := l.conn.Write(record.Data[:n])
	return err
}

// maxAnswers is how much crypto/tls may queue by itself behind other output. A
// peer that asks for new keys again and again, and reads nothing, would
// otherwise fill the memory.
const maxAnswers = 16 << 10

var errFlood = errors.New("strand: TLS: the peer asks for answers and does not read them")

// countAnswerLocked counts n bytes that crypto/tls is about to send. What is
// not user data, nor of a handshake, answers the peer. Once the first of those
// counted is out the count begins anew: there may always be a backlog.
func (s *stream) countAnswerLocked(n int) {
	c := s.sec
	switch {
	case c.up != nil && (c.top == nil || c.inside.Load() > 0) || c.encrypting.Load() > 0:
	case !s.backlogLocked() || s.sent >= c.answered:
		c.answers = n
		c.answered = s.sent + int64(s.out.Len()+n)
	default:
		if c.answers += n; c.answers > maxAnswers {
			s.endLocked(errFlood)
		}
	}
}

// Failing.

// unsentLocked reports whether anything that the user wrote is not out yet: the
// rest of the output is what TLS has to say. A byte that a foreign conn's Write is
// at is not out.
func (s *stream) unsentLocked() bool {
	c := s.sec
	return c.earlyLocked() > 0 || c.encrypting.Load() > 0 || s.sent < c.userEnd
}

// lossLocked is what err, which ends the connection, is told as: after Close
// nothing is lost if all is out that the user wrote.
func (s *stream) lossLocked(err error) error {
	if s.sec != nil && s.life.isClosing() && !s.unsentLocked() {
		return nil
	}
	return err
}

// postponedLocked reports whether an error of output is met later, and drops the
// output then. That is so if TLS alone had something to say, perhaps an alert,
// whose reason comes first: while a handshake computes (see shake), and on an
// open connection, where, as crypto/tls has it, the next write meets the error,
// if the reader does not.
func (s *stream) postponedLocked(err error) bool {
	c := s.sec
	switch {
	case s.life.phase >= closing:
		return false
	case c.shaking:
		s.out.Reset()
	case c.up == nil && !s.unsentLocked():
		if n := s.out.Len(); n > 0 {
			s.out.Reset()
			s.flow.sub(n)
			s.edgesLocked()
		}
	default:
		return false
	}
	c.broken = err
	return true
}

// unheardLocked is Write when output is broken. To whom writes that is an error,
// and to a handshake. What crypto/tls answers the peer is as good as sent: an
// error would keep it from reading what is there (it leaves out half of a key
// update).
func (s *stream) unheardLocked(p []byte) (int, error) {
	if s.sec.up != nil || s.sec.encrypting.Load() > 0 {
		return 0, s.sec.broken
	}
	return len(p), nil
}
