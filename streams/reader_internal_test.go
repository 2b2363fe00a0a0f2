package streams

import (
	"context"
	"errors"
	"net"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// SR-15: bytes that come at the same time as the end of the context are what
// the read returns.
func TestCancelAndDataAtOnce(t *testing.T) {
	p := NewProtocol(0)
	r := p.Reader()
	for range 200 {
		ctx, cancel := context.WithCancel(context.Background())
		got := make(chan error, 1)
		go func() {
			_, err := r.ReadSome(ctx, 1)
			got <- err
		}()
		for r.mu.Lock(); !r.waiting; r.mu.Lock() {
			r.mu.Unlock()
			runtime.Gosched()
		}
		cancel()
		runtime.Gosched() // it may notice, and has to wait for the lock
		r.in.append([]byte("x"))
		r.wakeLocked()
		r.mu.Unlock()
		require.NoError(t, <-got)
		require.Empty(t, r.wake)
	}
}

// fake is a transport of which a test says what it answers.
type fake struct {
	strand.Transport
	paused   bool
	writable bool
	ctx      context.Context
	posted   []func() // by CallSoon; nil: it refuses
}

func (f *fake) PauseReading()            { f.paused = true }
func (f *fake) ResumeReading()           { f.paused = false }
func (f *fake) Writable() bool           { return f.writable }
func (f *fake) IsClosing() bool          { return false }
func (f *fake) Context() context.Context { return f.ctx }

func (f *fake) CallSoon(fn func()) bool {
	if f.posted == nil {
		return false
	}
	f.posted = append(f.posted, fn)
	return true
}

// After Server.Shutdown nothing more is received, also when what the Reader
// held is read.
func TestShutdownStopsReading(t *testing.T) {
	for _, held := range []int{0, 1, 11} {
		p, f := NewProtocol(5), new(fake)
		p.ConnectionMade(f)
		p.handler = func(*Reader, *Writer) {}
		if held > 0 {
			p.DataReceived(make([]byte, held))
		}
		p.ShutdownRequested()
		require.True(t, f.paused)
		got, err := p.Reader().ReadAll(context.Background())
		require.NoError(t, err)
		require.Len(t, got, held)
		require.True(t, f.paused)
	}
}

// SW-05: the end may be decided between two looks at the transport.
func TestEndDuringCalls(t *testing.T) {
	cause := errors.New("division by zero")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	p, f := NewProtocol(0), &fake{ctx: ctx}
	p.ConnectionMade(f)
	require.Equal(t, cause, p.Writer().Drain(context.Background()))
	f.writable = true
	require.ErrorIs(t, p.Writer().StartTLS(context.Background(), nil), net.ErrClosed)
}

// SW-03: a ResumeWriting that comes when the mark has been crossed again lets
// nobody go.
func TestLateResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := NewProtocol(0), &fake{posted: []func(){}}
		p.ConnectionMade(f)
		p.PauseWriting()
		drained := make(chan error, 1)
		go func() { drained <- p.Writer().Drain(context.Background()) }()
		synctest.Wait()
		p.ResumeWriting()
		p.PauseWriting()
		for _, fn := range f.posted {
			fn()
		}
		synctest.Wait()
		require.Empty(t, drained)
		f.writable = true
		p.ResumeWriting()
		require.NoError(t, <-drained)
	})
}
