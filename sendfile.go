package strand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/gostrand/strand/internal/bufpool"
	"github.com/gostrand/strand/internal/sockio"
)

// ErrSendfileActive is returned by Write, WriteLines, WriteEOF, StartTLS and
// Sendfile while a Sendfile is running on the same transport.
var ErrSendfileActive = errors.New("strand: a Sendfile is in progress")

// Sendfile sends count bytes of f from offset on, or up to the end of the file
// if count is 0 or reaches beyond it, and returns how many were sent. f is read
// by the kernel (sendfile(2)) where the connection and the file allow it,
// otherwise copied in small pieces. Output that was accepted before goes out
// first. Until Sendfile returns, writing is refused with ErrSendfileActive and
// nothing is received.
//
// It blocks until the kernel has taken everything; a callback that calls it
// holds up its own connection. If ctx ends before, the context's cause is
// returned; the transport stays open, having sent a part of the file. Closing
// or losing the connection ends it with an error matching net.ErrClosed or the
// cause. If f can no longer be read when a part of it is sent, the connection
// ends with the same error; if nothing is sent yet, it goes on. Afterwards the
// position of f is behind the last byte sent, if one was.
//
// A negative offset or count, and an f that is not a regular file, are errors
// that match os.ErrInvalid; pipes, and transports that are not this package's,
// get one that matches errors.ErrUnsupported. A second call at the same time
// returns ErrSendfileActive; after WriteEOF it is ErrWriteAfterEOF, and during a
// TLS handshake Sendfile is refused, too. asyncio: loop.sendfile, where
// count=None means up to the end.
func Sendfile(ctx context.Context, t Transport, f *os.File, offset, count int64) (int64, error) {
	s, ok := t.(*stream)
	if !ok || s.pipe != nil {
		return 0, fmt.Errorf("strand: Sendfile on a %T: %w", t, errors.ErrUnsupported)
	}
	if f == nil || offset < 0 || count < 0 {
		return 0, fmt.Errorf("strand: Sendfile of %d bytes from %d: %w", count, offset, os.ErrInvalid)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("strand: Sendfile of %s, which is not a regular file: %w", f.Name(), os.ErrInvalid)
	}
	left := max(info.Size()-offset, 0)
	if count > 0 {
		left = min(left, count)
	}
	x := &transfer{s: s, ctx: ctx, f: f, offset: offset, left: left, wake: make(chan struct{}, 1)}
	sent, err := x.run()
	if sent > 0 {
		if _, serr := f.Seek(offset+sent, io.SeekStart); err == nil {
			err = serr
		}
	}
	return sent, err
}

// transfer is a Sendfile in progress.
type transfer struct {
	s      *stream
	ctx    context.Context
	f      *os.File
	offset int64 // of the next byte
	left   int64 // bytes to send
	sent   int64
	kernel bool          // the stream's mu; it is sendfile(2) that waits, as the writer
	wake   chan struct{} // has something when output went out, or the end began
}

func (x *transfer) run() (int64, error) {
	if err := x.begin(); err != nil {
		return 0, err
	}
	defer x.end()
	stop := context.AfterFunc(x.ctx, x.interrupt)
	defer stop()
	if x.s.kind == sockio.None || x.s.sec != nil || !sockio.HasSendfile {
		return x.sent, x.copy()
	}
	err := x.native()
	if errors.Is(err, errors.ErrUnsupported) && x.sent == 0 {
		err = x.copy()
	}
	return x.sent, err
}

// begin makes the transport this transfer's.
func (x *transfer) begin() error {
	s := x.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.acceptLocked(0); err != nil {
		return err
	}
	if s.upgradingLocked() {
		return errUpgrading
	}
	s.transfer = x
	s.setGateLocked()
	if s.inConn > 0 {
		s.wakeReaderLocked()
	}
	return nil
}

// end gives the transport back.
func (x *transfer) end() {
	s := x.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transfer = nil
	s.setGateLocked()
	if s.parked != nil {
		s.wakeReaderLocked()
	}
}

// signal has the transfer look at the state again. It never blocks.
func (x *transfer) signal() {
	select {
	case x.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// interrupt is called when the context has ended.
func (x *transfer) interrupt() {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.interruptLocked()
}

// interruptLocked brings the transfer back from wherever it waits.
func (x *transfer) interruptLocked() {
	x.signal()
	if x.kernel {
		x.s.conn.SetWriteDeadline(longAgo)
	}
}

// errorLocked is why the transfer cannot go on.
func (x *transfer) errorLocked() error {
	if x.s.life.isClosing() {
		return closedError{x.s.life.cause}
	}
	return context.Cause(x.ctx)
}

// await waits, and returns with the stream's lock held, until ok is true or
// the transfer cannot go on.
func (x *transfer) await(ok func() bool) error {
	x.s.mu.Lock()
	for {
		if err := x.errorLocked(); err != nil || ok() {
			return err
		}
		x.s.mu.Unlock()
		select {
		case <-x.wake:
		case <-x.ctx.Done():
		}
		x.s.mu.Lock()
	}
}

// native has the kernel send. The calling goroutine stands in for the writer.
func (x *transfer) native() error {
	s := x.s
	err := x.await(func() bool { return !s.pendingLocked() })
	if err != nil {
		s.mu.Unlock()
		return err
	}
	s.beginWritingLocked()
	x.kernel = true
	s.mu.Unlock()
	for err == nil && x.left > 0 {
		err = x.send()
	}
	fault := x.fileFault(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	stop := x.errorLocked()
	x.kernel = false
	if s.life.phase < ended {
		s.conn.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
	case stop != nil:
		err = stop
	case fault != nil:
		err = fault
	case x.sent > 0 || !errors.Is(err, errors.ErrUnsupported):
		s.endLocked(err) // the connection is broken, or half a file is out and nothing makes sense behind it
	}
	s.writerGoneLocked()
	s.flushedLocked()
	return err
}

// fileFault returns the file's error if it is that, and not the connection's,
// which keeps the first byte from being sent: then the connection goes on.
func (x *transfer) fileFault(err error) error {
	if err == nil || x.sent > 0 {
		return nil
	}
	if _, err = x.f.ReadAt(make([]byte, 1), x.offset); err == io.EOF {
		return nil
	}
	return err
}

// send lets the kernel take what it can, waiting for room.
func (x *transfer) send() error {
	file, err := x.f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := file.Control(func(in uintptr) {
		var n int64
		werr := x.s.wraw.Write(func(out uintptr) (done bool) {
			n, err = sockio.Sendfile(out, in, x.offset, x.left)
			return err == nil || !sockio.WouldBlock(err) || x.stopped()
		})
		if werr != nil {
			err = werr
		}
		x.progress(n)
		if n == 0 && err == nil {
			x.left = 0 // the file has become shorter
		}
	})
	if cerr != nil { // the poller's own error for a file that was closed meanwhile
		return &os.PathError{Op: "sendfile", Path: x.f.Name(), Err: os.ErrClosed}
	}
	if err != nil {
		return x.s.opError("sendfile", err)
	}
	return nil
}

func (x *transfer) stopped() bool {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	return x.errorLocked() != nil
}

func (x *transfer) progress(n int64) {
	x.offset += n
	x.left -= n
	x.sent += n
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.sent += n
}

// copy sends by reading and writing, never over the high-water mark if that
// leaves room for a piece: the protocol does not hear of it (SF-08).
func (x *transfer) copy() error {
	buf := bufpool.Get(bufpool.Medium)
	defer bufpool.Put(buf)
	for x.left > 0 {
		n, err := x.f.ReadAt(buf.Data[:min(x.left, int64(len(buf.Data)))], x.offset)
		if n == 0 {
			if err == io.EOF {
				break
			}
			if x.sent > 0 {
				x.s.fail(err) // as in native: nothing makes sense behind half a file
			}
			return err
		}
		if err := x.write(buf.Data[:n]); err != nil {
			return err
		}
		x.offset += int64(n)
		x.left -= int64(n)
		x.sent += int64(n)
	}
	err := x.await(func() bool { return !x.s.pendingLocked() })
	x.s.mu.Unlock()
	return err
}

func (x *transfer) write(p []byte) error {
	s := x.s
	err := x.await(func() bool { return s.flow.size == 0 || s.flow.size+len(p) <= s.flow.high })
	if err == nil && s.sec == nil {
		_, err = s.transmitLocked(p)
	}
	s.mu.Unlock()
	if err != nil || s.sec == nil {
		return err
	}
	s.sec.encrypt.Lock()
	defer s.sec.encrypt.Unlock()
	if s.IsClosing() {
		return net.ErrClosed
	}
	return s.encryptInto(s.sec.top, p)
}
