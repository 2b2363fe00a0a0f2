package strand

import (
	"context"
	"net"
	"net/netip"
	"os"
	"time"
)

// A transport decides how bytes move. The interfaces here are what a protocol
// is given in ConnectionMade and what the entry points return.
//
// Every method may be called from any goroutine, at any time and from inside
// any callback; none waits for a callback or for the network. After the end of
// the connection all of them stay safe, and the accessors keep their answers.

// Names for ExtraInfo. Each line gives the Go type of the answer, which is nil
// where the transport has no such thing. asyncio: the names of get_extra_info.
const (
	// ExtraSocket is a syscall.RawConn of which only Control works: for
	// getsockopt and setsockopt. Its descriptor is valid until just before
	// ConnectionLost.
	ExtraSocket      = "socket"
	ExtraSockname    = "sockname"    // net.Addr: the local address
	ExtraPeername    = "peername"    // net.Addr: the remote address, nil when there is none
	ExtraPipe        = "pipe"        // *os.File: the file of a pipe transport, of two the one to read; its Fd would make it block
	ExtraSubprocess  = "subprocess"  // *os.Process: the child
	ExtraSSLContext  = "sslcontext"  // *tls.Config: the configuration in use
	ExtraSSLObject   = "ssl_object"  // tls.ConnectionState, after the handshake
	ExtraPeerCert    = "peercert"    // *x509.Certificate: the peer's own, nil when it sent none
	ExtraCipher      = "cipher"      // Cipher, after the handshake
	ExtraCompression = "compression" // always nil: TLS compression does not exist in Go
)

// BaseTransport is what all transports have in common. asyncio: BaseTransport.
type BaseTransport interface {
	// Close ends the connection gracefully: nothing more is received or
	// accepted, output that was accepted still goes out (for at most
	// CloseTimeout), then ConnectionLost(nil) follows. A child it kills: see
	// SubprocessTransport. It never waits; Done tells when the end has come. A
	// second call does nothing. The result is always nil; it is there for
	// io.Closer. asyncio: close.
	Close() error

	// IsClosing reports whether the end has begun: Close, Abort, an error, or
	// an end of file that closes. Once true it stays so. asyncio: is_closing.
	IsClosing() bool

	// ExtraInfo returns what is known about the connection under one of the
	// Extra names, and nil for everything else. asyncio: get_extra_info.
	ExtraInfo(name string) any

	// Context returns a context that is cancelled when the end of the
	// connection is decided, with the argument of ConnectionLost as its cause,
	// or net.ErrClosed for a clean end. A callback that waits for something
	// else should wait for this too. asyncio has no such thing.
	Context() context.Context

	// Done returns a channel that is closed after ConnectionLost has returned.
	// asyncio has no such thing.
	Done() <-chan struct{}

	// CallSoon runs fn in turn with the callbacks of this connection. It
	// returns true if fn will run, before ConnectionLost, and false if it never
	// will, because ConnectionLost is next or past. asyncio: loop.call_soon
	// and call_soon_threadsafe.
	CallSoon(fn func()) bool

	// CallLater runs fn in turn with the callbacks of this connection once d
	// has passed, unless the Timer is stopped or the connection lost before.
	// asyncio: loop.call_later.
	CallLater(d time.Duration, fn func()) *Timer
}

// ReadTransport is the receiving half. asyncio: ReadTransport.
type ReadTransport interface {
	BaseTransport

	// IsReading reports whether the transport is neither paused nor closing,
	// has something to read from, and no Sendfile is running. asyncio:
	// is_reading.
	IsReading() bool

	// PauseReading stops reading from the kernel, so that in the end the peer
	// has to stop sending: no data, no end of file and no read error is
	// delivered until ResumeReading. A second call does nothing. asyncio:
	// pause_reading.
	PauseReading()

	// ResumeReading undoes PauseReading. It delivers nothing itself. A second
	// call does nothing. asyncio: resume_reading.
	ResumeReading()
}

// WriteTransport is the sending half. asyncio: WriteTransport.
type WriteTransport interface {
	BaseTransport

	// Write sends p, now as far as the kernel takes it, the rest later and in
	// order. It never blocks, and so it buffers without limit (unless
	// WriteBufferMax is set): io.Copy into a transport holds the whole source
	// in memory; heed PauseWriting or Writable. p is not kept.
	//
	// The result is 0 or len(p), all or nothing. Errors match, the first that
	// applies, errors.ErrUnsupported if there is nothing to write to,
	// ErrWriteAfterEOF, ErrSendfileActive, net.ErrClosed after the end began,
	// ErrBufferFull, or are the socket's own, after which the connection is
	// closing. An empty p sends nothing. asyncio: write.
	Write(p []byte) (int, error)

	// WriteLines is Write for several pieces, in one vectored call where the
	// system has one. Nothing is put between them. asyncio: writelines.
	WriteLines(bufs ...[]byte) (int, error)

	// WriteEOF closes the sending side once everything written before is out,
	// and, on a *tls.Conn given to Attach, once its handshake is over; receiving
	// goes on. It returns errors.ErrUnsupported if the connection cannot do that,
	// ErrSendfileActive during a Sendfile, and the socket's error if it fails at
	// once; if it fails later, the reading side tells what is wrong. A second
	// call, and one while closing, does nothing. asyncio: write_eof.
	WriteEOF() error

	// CanWriteEOF reports whether WriteEOF is possible: not over TLS, nor on a
	// conn without CloseWrite, nor where one file is both ends of a pipe
	// transport. asyncio: can_write_eof.
	CanWriteEOF() bool

	// Abort ends the connection at once: output that the kernel has not taken
	// is lost, ConnectionLost(nil) follows. It also ends a Close that still has
	// output to send. A second call does nothing. asyncio: abort.
	Abort()

	// WriteBufferSize returns the number of bytes accepted and not yet taken
	// by the kernel. asyncio: get_write_buffer_size.
	WriteBufferSize() int

	// WriteBufferLimits returns the water marks, in bytes. Mind the order,
	// which is the reference's. asyncio: get_write_buffer_limits.
	WriteBufferLimits() (low, high int)

	// SetWriteBufferLimits sets the water marks, in bytes. A negative mark is
	// derived: low is a quarter of high, high four times low, and if both are
	// negative the defaults 64 KiB and 16 KiB come back. Zero means zero. It
	// returns an error, and changes nothing, if high would be below low.
	// asyncio: set_write_buffer_limits.
	SetWriteBufferLimits(high, low int) error

	// Writable reports whether a well-behaved protocol may write: it is false
	// from the moment the high-water mark is crossed until the low-water mark
	// is reached, and whenever Write would be refused: after WriteEOF, during a
	// Sendfile, and from the moment the end begins. asyncio has no such thing.
	Writable() bool
}

// Transport moves a byte stream both ways. asyncio: Transport.
type Transport interface {
	ReadTransport
	WriteTransport

	// SetProtocol makes p the receiver of all later callbacks. p gets no
	// ConnectionMade, the old protocol no ConnectionLost. It panics if p is
	// nil. asyncio: set_protocol.
	SetProtocol(p Protocol)

	// Protocol returns the current protocol, after the end the last one.
	// asyncio: get_protocol.
	Protocol() Protocol

	// LocalAddr returns the local address, for a pipe the name of its file.
	// asyncio: get_extra_info("sockname").
	LocalAddr() net.Addr

	// RemoteAddr returns the peer's address, for a pipe the name of its file.
	// asyncio: get_extra_info("peername").
	RemoteAddr() net.Addr
}

// DatagramTransport moves datagrams. asyncio: DatagramTransport.
type DatagramTransport interface {
	ReadTransport

	// SendTo sends one datagram to addr, or to the connected peer if addr is
	// nil. It never blocks and does not keep p: what the kernel does not take
	// now is queued. Errors of the network go to ErrorReceived; SendTo itself
	// returns a *net.AddrError for an address that does not fit the endpoint,
	// ErrBufferFull, and after the end began an error matching net.ErrClosed.
	// An empty p is a datagram, too. asyncio: sendto.
	SendTo(p []byte, addr net.Addr) error

	// SendToAddrPort is SendTo for UDP without an allocated address. The zero
	// AddrPort stands for nil. asyncio: sendto.
	SendToAddrPort(p []byte, addr netip.AddrPort) error

	// Abort is WriteTransport's.
	Abort()
	// WriteBufferSize is WriteTransport's; each queued datagram counts for
	// eight bytes more than its length.
	WriteBufferSize() int
	// WriteBufferLimits is WriteTransport's.
	WriteBufferLimits() (low, high int)
	// SetWriteBufferLimits is WriteTransport's.
	SetWriteBufferLimits(high, low int) error
	// Writable is WriteTransport's.
	Writable() bool

	// SetProtocol makes p the receiver of all later callbacks, as Transport's
	// does. asyncio: set_protocol.
	SetProtocol(p DatagramProtocol)

	// Protocol returns the current protocol. asyncio: get_protocol.
	Protocol() DatagramProtocol

	// LocalAddr returns the local address. asyncio: get_extra_info("sockname").
	LocalAddr() net.Addr

	// RemoteAddr returns the address of the connected peer, or nil. asyncio:
	// get_extra_info("peername").
	RemoteAddr() net.Addr
}

// SubprocessTransport is a child process and its pipes. Its Close kills the
// child and aborts the pipes, so that output held is lost; ConnectionLost(nil)
// follows when all of them have ended. Shutdown is the gentle way. asyncio:
// SubprocessTransport.
type SubprocessTransport interface {
	BaseTransport

	// Pid returns the child's process id. asyncio: get_pid.
	Pid() int

	// PipeTransport returns the transport of the pipe at the child's
	// descriptor fd (0 to write to, 1 and 2 to read from), nil if there is no
	// pipe. A protocol set on it takes the place of PipeDataReceived and
	// PipeConnectionLost for that pipe, on 0 of PauseWriting and ResumeWriting
	// too. asyncio: get_pipe_transport.
	PipeTransport(fd int) Transport

	// ReturnCode returns the exit status, or minus the number of the signal
	// that killed the child, and whether the child has ended. asyncio:
	// get_returncode.
	ReturnCode() (code int, exited bool)

	// Kill kills the child; its pipes go on until they end. After its end is
	// known it returns os.ErrProcessDone, as Terminate and SendSignal do.
	// asyncio: kill.
	Kill() error

	// Terminate asks the child to end (SIGTERM), which is an error on Windows.
	// asyncio: terminate.
	Terminate() error

	// SendSignal sends a signal to the child. Windows knows os.Kill only.
	// asyncio: send_signal.
	SendSignal(sig os.Signal) error

	// Shutdown ends the child step by step and waits for the end. If the
	// child's standard input is a pipe, it closes that, and gives the child 5 s,
	// or half of the time until ctx's deadline if that is less. Then it sends
	// SIGTERM. When ctx ends, or 5 s later if ctx never does, it kills the child
	// as Close does. It returns nil after ConnectionLost has returned. If it has
	// to kill, it returns when the child is dead, without waiting for callbacks,
	// with ctx's cause or a *TimeoutError. Called from a callback of the child it
	// waits for itself, until it kills. After the end it returns nil at once.
	// asyncio has no such thing.
	Shutdown(ctx context.Context) error

	// SetProtocol makes p the receiver of all later callbacks, as Transport's
	// does. asyncio: set_protocol.
	SetProtocol(p SubprocessProtocol)

	// Protocol returns the current protocol. asyncio: get_protocol.
	Protocol() SubprocessProtocol
}
