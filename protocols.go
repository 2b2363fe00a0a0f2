package strand

import "net"

// A protocol decides which bytes are sent and what the received ones mean. The
// interfaces here are what the library's users implement; embed NopProtocol,
// NopDatagramProtocol or NopSubprocessProtocol to write only the callbacks that
// matter.
//
// The callbacks of one connection run one at a time and never nested, and each
// happens before the next, so a protocol needs no lock for what only its
// callbacks touch. A callback may block: it holds up its own connection and no
// other. A panic in a callback ends the connection with a *PanicError.

// BaseProtocol is what the protocols of all transports have in common. It is
// asyncio's BaseProtocol without connection_made, which has another argument
// for each kind of transport.
type BaseProtocol interface {
	// ConnectionLost is the last callback. It is called exactly once if
	// ConnectionMade was called, after the descriptor was closed. err is nil
	// after a clean end: Close, Abort, or an end of file from the peer.
	// asyncio: connection_lost.
	ConnectionLost(err error)

	// PauseWriting asks for no more output: the transport holds more than the
	// high-water mark. Nothing breaks if the protocol goes on writing, except
	// that memory fills. It comes right after the callback in which the mark
	// was crossed, or in turn if another goroutine's Write crossed it. That
	// goroutine, another connection's in a proxy, may have written much more
	// by then, unless it asks Writable. asyncio: pause_writing.
	PauseWriting()

	// ResumeWriting follows each PauseWriting once the output held has come
	// down to the low-water mark, unless the connection is lost before.
	// asyncio: resume_writing.
	ResumeWriting()
}

// Protocol is the interface of byte stream protocols. asyncio: Protocol.
type Protocol interface {
	BaseProtocol

	// ConnectionMade is the first callback, called exactly once. Nothing is
	// read before it returns. asyncio: connection_made.
	ConnectionMade(t Transport)

	// DataReceived gets the bytes that arrived, at least one and at most
	// 256 KiB, cut wherever the network cut them. data belongs to the
	// transport and is only valid until DataReceived returns: copy what has to
	// stay. Nothing more is read meanwhile. asyncio: data_received.
	DataReceived(data []byte)

	// EOFReceived is called at most once, after the last byte, when the peer
	// has closed its sending side. Returning false closes the connection as
	// Close does; true leaves it open for writing until Close is called.
	// Read pipes and TLS connections close in any case.
	// asyncio: eof_received.
	EOFReceived() (keepOpen bool)
}

// BufferedProtocol is a Protocol that provides the memory it receives into.
// Any Protocol that has the two further methods is taken for one, and its
// DataReceived is never called. asyncio: BufferedProtocol.
type BufferedProtocol interface {
	Protocol

	// GetBuffer returns memory to receive into, which belongs to the transport
	// until BufferUpdated or the next GetBuffer. sizeHint is a recommended
	// size, or -1. An empty result is an error and ends the connection. Calls
	// of GetBuffer are not always followed by BufferUpdated: there may be
	// nothing to receive. asyncio: get_buffer.
	GetBuffer(sizeHint int) []byte

	// BufferUpdated says that the first n bytes, at least one, of the last
	// GetBuffer's result were received. asyncio: buffer_updated.
	BufferUpdated(n int)
}

// DatagramProtocol is the interface of datagram protocols. asyncio:
// DatagramProtocol.
type DatagramProtocol interface {
	BaseProtocol

	// ConnectionMade is the first callback, called exactly once. asyncio:
	// connection_made.
	ConnectionMade(t DatagramTransport)

	// DatagramReceived gets one whole datagram, which may be empty, and its
	// sender's address: a *net.UDPAddr or *net.UnixAddr, nil for an unnamed
	// Unix socket, or what another net.PacketConn says. data is only valid
	// until DatagramReceived returns; addr may be kept and must not be changed.
	// asyncio: datagram_received.
	DatagramReceived(data []byte, addr net.Addr)

	// ErrorReceived reports an error of an earlier send or of a receive. The
	// endpoint goes on. asyncio: error_received.
	ErrorReceived(err error)
}

// SubprocessProtocol is the interface of protocols for child processes.
// asyncio: SubprocessProtocol.
type SubprocessProtocol interface {
	// BaseProtocol's PauseWriting and ResumeWriting speak of the child's
	// standard input; ConnectionLost comes after the end of the process and of
	// every pipe.
	BaseProtocol

	// ConnectionMade is the first callback, called exactly once. asyncio:
	// connection_made.
	ConnectionMade(t SubprocessTransport)

	// PipeDataReceived gets bytes that the child wrote to its descriptor fd, 1
	// or 2. data is only valid until PipeDataReceived returns. asyncio:
	// pipe_data_received.
	PipeDataReceived(fd int, data []byte)

	// PipeConnectionLost says that the pipe at the child's descriptor fd (0, 1
	// or 2) was closed, and why: err is as in ConnectionLost. It is called once
	// for every pipe, after its last data. asyncio: pipe_connection_lost.
	PipeConnectionLost(fd int, err error)

	// ProcessExited says that the process has ended; ReturnCode is set. It is
	// called once, before or after the last data of the pipes. asyncio:
	// process_exited.
	ProcessExited()
}

// ShutdownRequester is an optional ability of a Protocol: Server.Shutdown
// calls ShutdownRequested, in turn with the other callbacks, instead of
// closing the connection, and lets the protocol finish and close it. asyncio
// has no such thing.
type ShutdownRequester interface {
	ShutdownRequested()
}

// NopProtocol has every method of Protocol and does nothing in any of them:
// embed it. Its EOFReceived returns false.
type NopProtocol struct{}

// ConnectionMade does nothing.
func (NopProtocol) ConnectionMade(Transport) {}

// DataReceived does nothing.
func (NopProtocol) DataReceived([]byte) {}

// EOFReceived returns false: the connection closes.
func (NopProtocol) EOFReceived() bool { return false }

// PauseWriting does nothing.
func (NopProtocol) PauseWriting() {}

// ResumeWriting does nothing.
func (NopProtocol) ResumeWriting() {}

// ConnectionLost does nothing.
func (NopProtocol) ConnectionLost(error) {}

// NopDatagramProtocol has every method of DatagramProtocol and does nothing in
// any of them: embed it.
type NopDatagramProtocol struct{}

// ConnectionMade does nothing.
func (NopDatagramProtocol) ConnectionMade(DatagramTransport) {}

// DatagramReceived does nothing.
func (NopDatagramProtocol) DatagramReceived([]byte, net.Addr) {}

// ErrorReceived does nothing.
func (NopDatagramProtocol) ErrorReceived(error) {}

// PauseWriting does nothing.
func (NopDatagramProtocol) PauseWriting() {}

// ResumeWriting does nothing.
func (NopDatagramProtocol) ResumeWriting() {}

// ConnectionLost does nothing.
func (NopDatagramProtocol) ConnectionLost(error) {}

// NopSubprocessProtocol has every method of SubprocessProtocol and does
// nothing in any of them: embed it.
type NopSubprocessProtocol struct{}

// ConnectionMade does nothing.
func (NopSubprocessProtocol) ConnectionMade(SubprocessTransport) {}

// PipeDataReceived does nothing.
func (NopSubprocessProtocol) PipeDataReceived(int, []byte) {}

// PipeConnectionLost does nothing.
func (NopSubprocessProtocol) PipeConnectionLost(int, error) {}

// ProcessExited does nothing.
func (NopSubprocessProtocol) ProcessExited() {}

// PauseWriting does nothing.
func (NopSubprocessProtocol) PauseWriting() {}

// ResumeWriting does nothing.
func (NopSubprocessProtocol) ResumeWriting() {}

// ConnectionLost does nothing.
func (NopSubprocessProtocol) ConnectionLost(error) {}

var (
	_ Protocol           = NopProtocol{}
	_ DatagramProtocol   = NopDatagramProtocol{}
	_ SubprocessProtocol = NopSubprocessProtocol{}
)
