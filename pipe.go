package strand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/gostrand/strand/internal/sockio"
)

// PipeOptions are the settings of ConnectPipe, ConnectReadPipe and
// ConnectWritePipe.
type PipeOptions struct {
	TransportOptions
}

// ConnectPipe makes a transport of files: r to read from, w to write to, or
// both, which may be the same file (a terminal, say). They may be pipes, FIFOs,
// sockets and character devices; anything else is refused with an error matching
// os.ErrInvalid and stays the caller's. The transport owns the files and closes
// them.
//
// A half that is missing answers errors.ErrUnsupported. With only r, the end
// of file closes the transport whatever EOFReceived returns; with only w,
// WriteEOF is Close, and a reader that goes away ends the connection: with nil
// if nothing was buffered, otherwise with an error matching EPIPE. On a
// terminal, whose other side answers EIO once it is gone, that is an end of
// file to a reader; a writer is told of it by its next write.
//
// A pipe or terminal that blocks is opened anew for non-blocking use where the
// system can do that. Standard input, output and error, which other processes
// share, are never made non-blocking themselves. What can only block is used
// from a goroutine that may outlive the transport until its last call returns.
// The files must not be used otherwise, and nobody may call their Fd, which
// would make them block.
//
// It blocks, calls factory and heeds ctx as CreateConnection does. If it returns
// an error because of its arguments or because factory panics, the files stay
// open and the caller's. opts may be nil.
// asyncio: connect_read_pipe and connect_write_pipe.
func ConnectPipe[P Protocol](ctx context.Context, r, w *os.File, factory func() P, opts *PipeOptions) (Transport, P, error) {
	var none P
	if factory == nil {
		return nil, none, errNilFactory
	}
	var o PipeOptions
	if opts != nil {
		o = *opts
	}
	cfg, err := o.resolve()
	if err != nil {
		return nil, none, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, none, err
	}
	if err := checkPipe(r, w); err != nil {
		return nil, none, err
	}
	p, err := produce(factory)
	if err != nil {
		return nil, none, err
	}
	t, err := start(ctx, newStream(newPipeConn(r, w), cfg), p, nil)
	return created(t, p, err)
}

// ConnectReadPipe is ConnectPipe with only a file to read from. asyncio:
// connect_read_pipe.
func ConnectReadPipe[P Protocol](ctx context.Context, r *os.File, factory func() P, opts *PipeOptions) (Transport, P, error) {
	return ConnectPipe(ctx, r, nil, factory, opts)
}

// ConnectWritePipe is ConnectPipe with only a file to write to. asyncio:
// connect_write_pipe.
func ConnectWritePipe[P Protocol](ctx context.Context, w *os.File, factory func() P, opts *PipeOptions) (Transport, P, error) {
	return ConnectPipe(ctx, nil, w, factory, opts)
}

// checkPipe refuses what cannot be a pipe transport (RP-01, WP-01).
func checkPipe(files ...*os.File) error {
	given := 0
	for _, f := range files {
		if f == nil {
			continue
		}
		given++
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeCharDevice) == 0 {
			return fmt.Errorf("strand: %s: pipe transports are for pipes, sockets and character devices only: %w", f.Name(), fs.ErrInvalid)
		}
	}
	if given == 0 {
		return errors.New("strand: ConnectPipe needs a file")
	}
	return nil
}

// pipeConn makes a net.Conn of one or two files.
type pipeConn struct {
	given *os.File  // the first file, for ExtraInfo and the addresses
	r, w  *pipeHalf // nil: that half is missing; the same if one file is both
	raw   syscall.RawConn
	wraw  syscall.RawConn
	kind  sockio.Kind
	watch bool // there is no r, and the poller tells when w's reader goes away
}

// pipeHalf is a file of a pipeConn: the caller's, or what is used in its place.
type pipeHalf struct {
	pipeFile
	given *os.File // nil if pipeFile closes it
}

// pipeFile is an *os.File that the poller watches, or a *blockingFile.
type pipeFile interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

func newPipeConn(r, w *os.File) *pipeConn {
	c := &pipeConn{given: r, r: newPipeHalf(r)}
	if r == nil {
		c.given = w
	}
	if c.w = c.r; r != w {
		c.w = newPipeHalf(w)
	}
	c.useFast()
	c.watch = r == nil && c.kind != sockio.None && !isDevice(w)
	return c
}

func newPipeHalf(f *os.File) *pipeHalf {
	switch {
	case f == nil:
		return nil
	case canPoll(f):
		return &pipeHalf{pipeFile: f}
	}
	if again := reopen(f); again != nil {
		return &pipeHalf{pipeFile: again, given: f}
	}
	if dup := withoutSIGPIPE(f); dup != nil {
		return &pipeHalf{pipeFile: newBlockingFile(dup), given: f}
	}
	return &pipeHalf{pipeFile: newBlockingFile(f)}
}

func (h *pipeHalf) Close() error {
	err := h.pipeFile.Close()
	if h.given != nil {
		err = errors.Join(err, h.given.Close())
	}
	return err
}

// canPoll reports whether the runtime's poller watches f and a read of what is
// not there returns. The method Fd, which os/exec calls for every file that a
// child gets, makes a watched file block.
func canPoll(f *os.File) bool { return f.SetDeadline(time.Time{}) == nil && isNonblock(f) }

func isDevice(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&fs.ModeCharDevice != 0
}

// useFast chooses the fast path if all files can be polled.
func (c *pipeConn) useFast() {
	raws := [2]syscall.RawConn{}
	for i, h := range []*pipeHalf{c.r, c.w} {
		if h == nil {
			continue
		}
		f, ok := h.pipeFile.(*os.File)
		if ok {
			raws[i], c.kind = sockio.OfFile(f)
		}
		if raws[i] == nil {
			c.kind = sockio.None
			return
		}
	}
	c.raw, c.wraw = raws[0], raws[1]
	if c.raw == nil {
		c.raw = c.wraw // to watch for the reader going away
	}
}

// oneFile reports whether what is read from is what is written to.
func (c *pipeConn) oneFile() bool { return c.r == nil || c.w == nil || c.r == c.w }

func (c *pipeConn) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if errors.Is(err, syscall.EIO) {
		err = io.EOF // a terminal whose other side is gone
	}
	return n, err
}

func (c *pipeConn) Write(p []byte) (int, error) { return c.w.Write(p) }

func (c *pipeConn) Close() error {
	var errs []error
	for _, h := range []*pipeHalf{c.r, c.w} {
		if h == nil {
			continue
		}
		if err := h.Close(); !errors.Is(err, os.ErrClosed) { // by CloseWrite, or as the other half
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// canCloseWrite reports whether the sending half can be ended.
func (c *pipeConn) canCloseWrite() bool { return c.w != nil && c.w != c.r }

// CloseWrite closes the file to write to.
func (c *pipeConn) CloseWrite() error { return c.w.Close() }

func (c *pipeConn) LocalAddr() net.Addr  { return pipeAddr(c.given.Name()) }
func (c *pipeConn) RemoteAddr() net.Addr { return pipeAddr(c.given.Name()) }

func (c *pipeConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *pipeConn) SetReadDeadline(t time.Time) error {
	if c.r == nil {
		return c.w.SetReadDeadline(t)
	}
	return c.r.SetReadDeadline(t)
}

func (c *pipeConn) SetWriteDeadline(t time.Time) error {
	if c.w == nil {
		return nil
	}
	return c.w.SetWriteDeadline(t)
}

func (c *pipeConn) extraInfo(name string) any {
	if name == ExtraPipe {
		return c.given
	}
	return nil
}

// pipeAddr is the address of a pipe: its name.
type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// What a stream does differently over a pipe.

func (s *stream) noRead() bool  { return s.pipe != nil && s.pipe.r == nil }
func (s *stream) noWrite() bool { return s.pipe != nil && s.pipe.w == nil }

// unwatched reports whether the reader goroutine has nothing to wait for but
// the end.
func (s *stream) unwatched() bool { return s.noRead() && !s.pipe.watch }

// isPtyEnd reports whether err is a terminal's way to say that its other side
// was closed.
func (s *stream) isPtyEnd(err error) bool { return s.kind == sockio.File && err == syscall.EIO }

// watchReader ends a write pipe whose reader has gone away (WP-03). Only what is
// still held is lost: a writer that has just sent the last byte has not gone yet.
func (s *stream) watchReader(fd uintptr) bool {
	if !sockio.PeerGone(fd) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out.Len() > 0 {
		s.endLocked(s.opError("write", syscall.EPIPE))
	} else {
		s.endLocked(nil)
	}
	return true
}

// readerGone is watchReader for when the poller has refused to wait: that is
// what it does on a full pipe whose reader has gone away.
func (s *stream) readerGone() (gone bool) {
	if s.noRead() {
		s.raw.Control(func(fd uintptr) { gone = s.watchReader(fd) }) // not on a closed file
	}
	return gone
}

// blockingFile runs the calls of a file that can only block in goroutines of
// their own, so that Close ends them for the caller. The goroutine of a call
// that is running then is left behind, and closes the file when the system
// call returns.
type blockingFile struct {
	f     *os.File
	quit  chan struct{} // closed by Close
	read  blockingCall
	write blockingCall

	mu      sync.Mutex
	closed  bool // mu
	running int  // mu; calls
}

// blockingCall is one direction. Only one goroutine uses it at a time.
type blockingCall struct {
	do     func([]byte) (int, error)
	buf    []byte // the call's own memory: the caller's may be gone when it returns
	result chan outcome
}

type outcome struct {
	n   int
	err error
}

func newBlockingFile(f *os.File) *blockingFile {
	b := &blockingFile{f: f, quit: make(chan struct{})}
	b.read = blockingCall{do: f.Read, result: make(chan outcome, 1)}
	b.write = blockingCall{do: f.Write, result: make(chan outcome, 1)}
	return b
}

func (b *blockingFile) Read(p []byte) (int, error) {
	b.read.grow(len(p))
	n, err := b.call(&b.read)
	if err != nil {
		return 0, err
	}
	return copy(p, b.read.buf[:n]), nil
}

func (b *blockingFile) Write(p []byte) (int, error) {
	b.write.grow(len(p))
	copy(b.write.buf, p)
	return b.call(&b.write)
}

func (c *blockingCall) grow(n int) {
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	c.buf = c.buf[:n]
}

// call runs the call on its buf and waits for it or for Close.
func (b *blockingFile) call(c *blockingCall) (int, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return 0, os.ErrClosed
	}
	b.running++
	b.mu.Unlock()
	go b.run(c, c.buf)
	select {
	case r := <-c.result:
		return r.n, r.err
	case <-b.quit:
		return 0, os.ErrClosed
	}
}

// run is the goroutine of a call.
func (b *blockingFile) run(c *blockingCall, buf []byte) {
	n, err := c.do(buf)
	b.mu.Lock()
	b.running--
	last := b.closed && b.running == 0
	b.mu.Unlock()
	if last {
		b.f.Close()
	}
	c.result <- outcome{n, err}
}

func (b *blockingFile) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	idle := b.running == 0
	b.mu.Unlock()
	close(b.quit)
	if !idle {
		return nil
	}
	return b.f.Close()
}

func (*blockingFile) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (*blockingFile) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

var _ net.Conn = (*pipeConn)(nil)
