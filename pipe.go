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

// PipeOptions are the settings of ConnectPipe and its two short forms.
type PipeOptions struct {
	TransportOptions
}

// ConnectPipe makes a transport of files: r to read from, w to write to, or
// both, which may be the same file (a terminal, say). They may be pipes, FIFOs,
// sockets and character devices; anything else is refused and stays the
// caller's. The transport owns the files and closes them.
//
// A half that is missing answers errors.ErrUnsupported. With only r, the end
// of file closes the transport whatever EOFReceived returns; with only w,
// WriteEOF is Close, and a reader that goes away ends the connection: with nil
// if nothing was buffered, otherwise with an error matching EPIPE.
//
// A file that blocks is opened anew for non-blocking use where the system can
// do that, and otherwise used from a goroutine that may outlive the transport
// until its last call returns; a description that other processes share is
// never made non-blocking. ConnectPipe blocks until ConnectionMade has
// returned; ctx counts until then. asyncio: connect_read_pipe and
// connect_write_pipe.
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
	if err := errors.Join(checkPipe(r, w), context.Cause(ctx)); err != nil {
		return nil, none, err
	}
	p, err := produce(factory)
	if err != nil {
		return nil, none, err
	}
	t, err := start(ctx, newPipeConn(r, w), p, cfg, nil)
	return t, p, err
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
			return fmt.Errorf("strand: %s: pipe transports are for pipes, sockets and character devices only", f.Name())
		}
	}
	if given == 0 {
		return errors.New("strand: ConnectPipe needs a file")
	}
	return nil
}

// pipeConn makes a net.Conn of one or two files.
type pipeConn struct {
	files    []*os.File // what Close closes
	r, w     pipeFile   // nil: that half is missing
	info     *os.File   // for ExtraInfo
	raw      syscall.RawConn
	wraw     syscall.RawConn
	kind     sockio.Kind
	sameFile bool // r and w are one, or there is only one
	watch    bool // there is no r, and w can tell when its reader goes away
}

// pipeFile is an *os.File, or a blocking one made bearable.
type pipeFile interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

func newPipeConn(r, w *os.File) *pipeConn {
	c := &pipeConn{info: r, sameFile: r == w || r == nil || w == nil}
	if r == nil {
		c.info = w
	}
	c.watch = r == nil && !isDevice(w)
	pr := c.open(r)
	pw := pr
	if r != w {
		pw = c.open(w)
	}
	c.useFast(pr, pw)
	c.r, c.w = c.half(pr), c.half(pw)
	return c
}

// open returns f, or its replacement that the poller can watch, and has both
// closed with the conn.
func (c *pipeConn) open(f *os.File) *os.File {
	if f == nil {
		return nil
	}
	c.files = append(c.files, f)
	if canPoll(f) {
		return f
	}
	if again := reopen(f); again != nil {
		c.files = append(c.files, again)
		return again
	}
	return f
}

// canPoll reports whether the runtime's poller watches f.
func canPoll(f *os.File) bool { return f.SetDeadline(time.Time{}) == nil }

func isDevice(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&fs.ModeCharDevice != 0
}

// useFast chooses the fast path if all files can be polled.
func (c *pipeConn) useFast(r, w *os.File) {
	for _, f := range []*os.File{r, w} {
		if f != nil && !canPoll(f) {
			return
		}
	}
	var kind sockio.Kind
	if r != nil {
		c.raw, kind = sockio.OfFile(r)
	}
	if w != nil {
		c.wraw, kind = sockio.OfFile(w)
	}
	if c.raw == nil {
		c.raw = c.wraw // to watch for the reader going away
	}
	c.kind = kind
}

// half is f with calls that Close ends.
func (c *pipeConn) half(f *os.File) pipeFile {
	switch {
	case f == nil:
		return nil
	case canPoll(f):
		return f
	}
	return newBlockingFile(f)
}

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
	for _, h := range []pipeFile{c.r, c.w} {
		if b, ok := h.(*blockingFile); ok {
			b.Close()
		}
	}
	for _, f := range c.files {
		if err := f.Close(); !errors.Is(err, os.ErrClosed) { // CloseWrite may have been there
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// canCloseWrite reports whether the sending half can be ended.
func (c *pipeConn) canCloseWrite() bool {
	return c.w != nil && (c.r == nil || !c.sameFile)
}

// CloseWrite closes the file to write to.
func (c *pipeConn) CloseWrite() error { return c.w.Close() }

func (c *pipeConn) LocalAddr() net.Addr  { return pipeAddr(c.info.Name()) }
func (c *pipeConn) RemoteAddr() net.Addr { return pipeAddr(c.info.Name()) }

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
		return c.info
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

// watchReader ends a write pipe whose reader has gone away (WP-03).
func (s *stream) watchReader(fd uintptr) bool {
	if !sockio.PeerGone(fd) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pendingLocked() {
		s.failLocked(s.opError("write", syscall.EPIPE))
	} else {
		s.endLocked(nil)
	}
	return true
}

// blockingFile runs the calls of a file that can only block in goroutines of
// their own, so that Close ends them for the caller. The goroutine is left
// behind until the system call returns.
type blockingFile struct {
	f     *os.File
	quit  chan struct{} // closed by Close
	once  sync.Once
	read  blockingCall
	write blockingCall
}

// blockingCall is one direction. Only one goroutine uses it at a time.
type blockingCall struct {
	do      func([]byte) (int, error)
	running bool         // a call was given up on, and its result is still to come
	buf     []byte       // the call's own memory: the caller's may be gone when it returns
	result  chan outcome // of the call that is running; after Close nobody takes it
	rest    []byte       // read and not taken yet
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
	c := &b.read
	if len(c.rest) == 0 {
		c.grow(len(p))
		n, err := b.call(c)
		if err != nil && n == 0 {
			return 0, err
		}
		c.rest = c.buf[:n]
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (b *blockingFile) Write(p []byte) (int, error) {
	c := &b.write
	c.grow(len(p))
	copy(c.buf, p)
	return b.call(c)
}

func (c *blockingCall) grow(n int) {
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	c.buf = c.buf[:n]
}

// call runs the call on buf and waits for it or for Close.
func (b *blockingFile) call(c *blockingCall) (int, error) {
	select {
	case <-b.quit:
		return 0, os.ErrClosed
	default:
	}
	go func(buf []byte) {
		n, err := c.do(buf)
		c.result <- outcome{n, err}
	}(c.buf)
	select {
	case r := <-c.result:
		return r.n, r.err
	case <-b.quit:
		return 0, os.ErrClosed
	}
}

func (b *blockingFile) Close() error {
	b.once.Do(func() { close(b.quit) })
	return nil // the file itself is pipeConn's to close
}

func (*blockingFile) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (*blockingFile) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

var _ net.Conn = (*pipeConn)(nil)
