package strand

import (
	"context"
	"net"
)

// ending is what lets others wait for the end of a transport: its Context and
// its Done. It is made when one of them is first asked for, because most
// connections never need it. The transport's lock guards it.
type ending struct {
	*waitable
}

type waitable struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when ConnectionLost has returned
}

// of returns what Context and Done give out, for a transport that stands where
// life says.
func (e *ending) of(life *lifecycle) *waitable {
	if e.waitable == nil {
		e.waitable = &waitable{done: make(chan struct{})}
		e.ctx, e.cancel = context.WithCancelCause(context.Background())
		if life.phase >= ended {
			e.decided(life.cause)
		}
		if life.phase == gone {
			e.over()
		}
	}
	return e.waitable
}

// decided is called when the end is decided.
func (e *ending) decided(cause error) {
	if e.waitable != nil {
		e.cancel(causeOf(cause))
	}
}

// over is called when ConnectionLost has returned.
func (e *ending) over() {
	if e.waitable != nil {
		close(e.done)
	}
}

// causeOf is what a context is cancelled with: a clean end has a name there.
func causeOf(cause error) error {
	if cause == nil {
		return net.ErrClosed
	}
	return cause
}
