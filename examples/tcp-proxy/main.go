// Tcp-proxy passes connections on to another address. Each is two transports:
// when one cannot be written to, the other is not read from, and an end of file
// on one side is passed on to the other while the opposite direction goes on.
package main

import (
	"context"
	"flag"
	"log"
	"sync/atomic"
	"time"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

// side is one of the two connections. What it touches of the other one is only
// its transport, whose methods any goroutine may call.
type side struct {
	strand.NopProtocol
	t     strand.Transport
	other *side
	ends  *atomic.Int32 // ends of file seen, of both sides
}

func (s *side) ConnectionMade(t strand.Transport) { s.t = t }
func (s *side) ResumeWriting()                    { s.other.t.ResumeReading() }

// DataReceived passes data on, and pauses by itself while the other side holds too
// much. The other side's PauseWriting comes in turn with its own callbacks: much
// could be received and written until then.
func (s *side) DataReceived(data []byte) {
	s.other.t.Write(data) // the other side's ConnectionLost tells of an error
	if s.other.t.Writable() {
		return
	}
	s.t.PauseReading()
	if s.other.t.Writable() { // its ResumeWriting may have come before the pause
		s.t.ResumeReading()
	}
}

// EOFReceived passes the end of one direction on. The second end closes both.
func (s *side) EOFReceived() (keepOpen bool) {
	if s.ends.Add(1) == 2 {
		s.other.t.Close()
		return false
	}
	if err := s.other.t.WriteEOF(); err != nil {
		log.Print(err)
		return false
	}
	return true
}

// ConnectionLost takes the other side with it: in peace, or after an error at
// once.
func (s *side) ConnectionLost(err error) {
	switch {
	case s.other.t == nil: // there never was another side
	case err != nil:
		s.other.t.Abort()
	default:
		s.other.t.Close()
	}
}

// client is the side that somebody connected to us from.
type client struct {
	side
	upstream string
}

// ConnectionMade connects to the other side. That blocks, but nothing is read
// before it returns, and no other connection waits.
func (c *client) ConnectionMade(t strand.Transport) {
	c.t = t
	c.ends = new(atomic.Int32)
	c.other = &side{other: &c.side, ends: c.ends}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := strand.CreateConnection(ctx, "tcp", c.upstream, func() *side { return c.other }, nil); err != nil {
		log.Print(err)
		t.Abort()
	}
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8892", "`address` to listen on")
	to := flag.String("to", "127.0.0.1:8888", "`address` to pass connections on to")
	program.Parse("tcp-proxy [flags]", "Passes connections on to another address.")
	program.ServeTCP(*addr, func() *client { return &client{upstream: *to} }, nil)
}
