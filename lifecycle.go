package strand

// Rule of this file: pure state. No goroutine, no lock, no I/O, no clock. The
// owner of a lifecycle calls it under its own lock.

// phase is how far a connection has come. It only ever moves down this list,
// and only in lifecycle.advance; phases may be skipped.
type phase uint8

const (
	// opening: the descriptor is there, ConnectionMade has not been called.
	opening phase = iota
	// open: data may flow both ways.
	open
	// closing: Close was called, or the peer's EOF ended the connection.
	// Nothing more is delivered or accepted; what was accepted still goes out.
	closing
	// shutting: all output is out, and over TLS the end was said to the peer,
	// who is to say it too.
	shutting
	// ended: the end is decided and its cause fixed. Nothing moves any more;
	// the connection's goroutines are leaving.
	ended
	// lost: the descriptor is closed, ConnectionLost is running or about to.
	lost
	// gone: ConnectionLost has returned.
	gone
)

func (p phase) String() string {
	return [...]string{"opening", "open", "closing", "shutting", "ended", "lost", "gone"}[p]
}

// sending is how far the write side of an open connection has come.
type sending uint8

const (
	sendOpen   sending = iota
	sendEOF            // WriteEOF was called, output is still going out before it
	sendClosed         // the peer has been told the end, or is being told
)

// lifecycle is where a connection stands. The first cause to end it wins; all
// later ones are dropped.
type lifecycle struct {
	phase   phase
	sending sending
	made    bool  // ConnectionMade was called
	sawEOF  bool  // EOFReceived was called
	aborted bool  // the end came by Abort
	cause   error // why the connection ended; set with phase ended, nil for a clean end
	failure error // it has failed while something is still to go out: the cause, whatever ends it
}

// advance moves to a later phase and reports whether it did.
func (l *lifecycle) advance(to phase) bool {
	if to <= l.phase {
		return false
	}
	l.phase = to
	return true
}

// close begins the graceful end. With output pending the connection stays
// closing until it is out, otherwise the end is decided now. It reports
// whether anything changed.
func (l *lifecycle) close(pending bool) bool {
	if l.phase >= closing {
		return false
	}
	if pending {
		return l.advance(closing)
	}
	return l.end(nil)
}

// closeFailed begins an end whose cause is known, and which waits for output all
// the same, or makes that of a graceful one. It reports whether anything changed.
func (l *lifecycle) closeFailed(failure error) bool {
	if l.phase > closing || l.failure != nil {
		return false
	}
	l.advance(closing)
	l.failure = failure
	return true
}

// end decides the end and fixes its cause. It reports whether this call did.
func (l *lifecycle) end(cause error) bool {
	if !l.advance(ended) {
		return false
	}
	l.cause = cause
	if l.failure != nil {
		l.cause = l.failure
	}
	return true
}

// abort decides the end now, whatever is pending. It reports whether this call
// did.
func (l *lifecycle) abort() bool {
	if !l.end(nil) {
		return false
	}
	l.aborted = true
	return true
}

// graceful reports whether the end that was decided leaves nothing behind: all
// that was accepted is out.
func (l *lifecycle) graceful() bool { return l.cause == nil && !l.aborted }

// isClosing reports whether Close, a deciding EOF or the end has come (BT-07).
func (l *lifecycle) isClosing() bool { return l.phase >= closing }

// refusal returns why nothing can be written now, nil if something can.
// sendfile says that a Sendfile is running. The order is the reference's
// (WR-03): after WriteEOF, during Sendfile, closed.
func (l *lifecycle) refusal(sendfile bool) error {
	switch {
	case l.sending != sendOpen:
		return ErrWriteAfterEOF
	case sendfile:
		return ErrSendfileActive
	case l.phase >= closing:
		return closedError{l.cause}
	}
	return nil
}
