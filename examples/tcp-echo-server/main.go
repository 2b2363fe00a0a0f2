// Tcp-echo-server sends back whatever its clients send. On an interrupt it
// stops accepting, lets the connections finish, and ends.
package main

import (
	"flag"
	"log"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

// echo is the protocol of one connection. Its callbacks run one at a time, so
// that it needs no lock.
type echo struct {
	strand.NopProtocol // the callbacks that are not written below
	t                  strand.Transport
}

func newEcho() *echo { return new(echo) }

func (e *echo) ConnectionMade(t strand.Transport) {
	e.t = t
	log.Printf("%v connected", t.RemoteAddr())
}

// DataReceived leaves Write's error alone: it ends the connection, and
// ConnectionLost gets it.
func (e *echo) DataReceived(data []byte) { e.t.Write(data) }

// A client that does not read its echo is not read from either.
func (e *echo) PauseWriting()  { e.t.PauseReading() }
func (e *echo) ResumeWriting() { e.t.ResumeReading() }

func (e *echo) ConnectionLost(err error) {
	if err != nil {
		log.Printf("%v lost: %v", e.t.RemoteAddr(), err)
		return
	}
	log.Printf("%v closed", e.t.RemoteAddr())
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8888", "`address` to listen on; port 0 takes a free one")
	program.Parse("tcp-echo-server [-addr address]", "Sends back whatever its clients send, until it is interrupted.")
	program.ServeTCP(*addr, newEcho, nil)
}
