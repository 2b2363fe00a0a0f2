// Tls-echo-server is the echo server over TLS: one field of the options more.
// Without -cert and -key it makes itself a certificate for localhost.
//
//	openssl s_client -connect 127.0.0.1:8443
package main

import (
	"crypto/tls"
	"flag"
	"log"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
	"github.com/gostrand/strand/examples/internal/selfsigned"
)

type echo struct {
	strand.NopProtocol
	t strand.Transport
}

func newEcho() *echo { return new(echo) }

// ConnectionMade comes after the handshake: a client that fails it is never
// seen here.
func (e *echo) ConnectionMade(t strand.Transport) {
	e.t = t
	state, _ := strand.TLSState(t)
	log.Printf("%v connected with %s", t.RemoteAddr(), tls.VersionName(state.Version))
}

func (e *echo) DataReceived(data []byte) { e.t.Write(data) }
func (e *echo) PauseWriting()            { e.t.PauseReading() }
func (e *echo) ResumeWriting()           { e.t.ResumeReading() }

func (e *echo) ConnectionLost(err error) { log.Printf("%v gone: %v", e.t.RemoteAddr(), err) }

func main() {
	addr := flag.String("addr", "127.0.0.1:8443", "`address` to listen on; port 0 takes a free one")
	config := selfsigned.Flags()
	program.Parse("tls-echo-server [-addr address] [-cert file -key file]",
		"Sends back whatever its clients send over TLS, until it is interrupted.")
	tlsConfig, err := config()
	if err != nil {
		log.Fatal(err)
	}
	program.ServeTCP(*addr, newEcho, &strand.ServerOptions{TLS: &strand.TLSOptions{Config: tlsConfig}})
}
