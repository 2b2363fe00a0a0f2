package streams

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/gostrand/strand"
)

// Options are the settings of OpenConnection.
type Options struct {
	strand.ConnectOptions

	// Limit is the Reader's limit in bytes: the length of the longest line.
	// Default DefaultLimit; negative is an error. asyncio: limit.
	Limit int
}

// AttachOptions are the settings of Attach.
type AttachOptions struct {
	strand.AttachOptions

	// Limit is as in Options.
	Limit int
}

// ServerOptions are the settings of StartServer and ServeListener. The Logger
// also gets the panics of handlers.
type ServerOptions struct {
	strand.ServerOptions

	// Limit is as in Options.
	Limit int
}

func checkLimit(limit int) error {
	if limit < 0 {
		return fmt.Errorf("streams: bad option: a limit of %d bytes", limit)
	}
	return nil
}

// OpenConnection connects to address, as strand.CreateConnection does, and
// returns the connection as a stream. It blocks until that is done, TLS
// handshake included, or until ctx ends, which has no meaning afterwards. opts
// may be nil. Close the Writer in the end. asyncio: open_connection and
// open_unix_connection.
func OpenConnection(ctx context.Context, network, address string, opts *Options) (*Reader, *Writer, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := checkLimit(o.Limit); err != nil {
		return nil, nil, err
	}
	factory := func() *Protocol {
		p := NewProtocol(o.Limit)
		if network != "unix" {
			p.host, _, _ = net.SplitHostPort(address) // it has been connected to
		}
		return p
	}
	return halves(strand.CreateConnection(ctx, network, address, factory, &o.ConnectOptions))
}

// Attach makes a connection that exists a stream, which then owns it, as
// strand.Attach does: a socket that was accepted elsewhere, one end of
// net.Pipe, a hijacked HTTP connection. It blocks as OpenConnection does. opts
// may be nil. If the error is one of the arguments, conn stays open and the
// caller's. asyncio: open_connection(sock=...).
func Attach(ctx context.Context, conn net.Conn, opts *AttachOptions) (*Reader, *Writer, error) {
	var o AttachOptions
	if opts != nil {
		o = *opts
	}
	if err := checkLimit(o.Limit); err != nil {
		return nil, nil, err
	}
	factory := func() *Protocol { return NewProtocol(o.Limit) }
	return halves(strand.Attach(ctx, conn, factory, &o.AttachOptions))
}

func halves(_ strand.Transport, p *Protocol, err error) (*Reader, *Writer, error) {
	if err != nil {
		return nil, nil, err
	}
	return p.Reader(), p.Writer(), nil
}

// StartServer listens on address, as strand.CreateServer does, and calls
// handler for each connection in a goroutine of its own. opts may be nil. It
// does not block, except for resolving a host name, to which ctx applies.
//
// When handler returns, the Writer is closed. When it panics, that is logged
// and the Writer closed; runtime.Goexit closes it silently. Server.Shutdown
// makes the Reader of each handler come to its end and lets the handler
// finish; Server.CloseClients closes the Writers. Neither these nor Server.Wait
// wait for a handler that goes on after its connection has ended. asyncio:
// start_server and start_unix_server.
func StartServer(ctx context.Context, network, address string, handler func(*Reader, *Writer), opts *ServerOptions) (*strand.Server, error) {
	o, factory, err := serving(handler, opts)
	if err != nil {
		return nil, err
	}
	return strand.CreateServer(ctx, network, address, factory, o)
}

// ServeListener is StartServer on a listener that exists, which is the server's
// from then on, unless an error is returned. It does not block. asyncio:
// start_server(sock=...).
func ServeListener(ln net.Listener, handler func(*Reader, *Writer), opts *ServerOptions) (*strand.Server, error) {
	o, factory, err := serving(handler, opts)
	if err != nil {
		return nil, err
	}
	return strand.ServeListener(ln, factory, o)
}

// serving checks what the servers have in common.
func serving(handler func(*Reader, *Writer), opts *ServerOptions) (*strand.ServerOptions, func() *Protocol, error) {
	if handler == nil {
		return nil, nil, errNilHandler
	}
	var o ServerOptions
	if opts != nil {
		o = *opts
	}
	if err := checkLimit(o.Limit); err != nil {
		return nil, nil, err
	}
	log := o.Logger
	if log == nil {
		log = slog.Default()
	}
	factory := func() *Protocol {
		p := NewProtocol(o.Limit)
		p.handler, p.log, p.serverSide = handler, log, true
		return p
	}
	return &o.ServerOptions, factory, nil
}
