// Tls-echo-server is the echo server over TLS: one field of the options more.
// Without -cert and -key it makes itself a certificate for localhost.
//
//	openssl s_client -connect 127.0.0.1:8443
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/gostrand/strand"
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
	cert := flag.String("cert", "", "`file` with the certificate, in PEM; none: one is made in memory")
	key := flag.String("key", "", "`file` with the certificate's key, in PEM")
	flag.Usage = usage
	flag.Parse()
	if err := run(*addr, *cert, *key); err != nil {
		log.Fatal(err)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), "usage: tls-echo-server [-addr address] [-cert file -key file]\n\n"+
		"Sends back whatever its clients send over TLS, until it is interrupted.\n\n")
	flag.PrintDefaults()
}

func run(addr, certFile, keyFile string) error {
	cert, err := selfsigned.Load(certFile, keyFile)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	server, err := strand.CreateServer(ctx, "tcp", addr, newEcho, &strand.ServerOptions{
		TLS: &strand.TLSOptions{Config: &tls.Config{Certificates: []tls.Certificate{cert}}},
	})
	if err != nil {
		return err
	}
	for _, a := range server.Addrs() {
		fmt.Println("listening on", a)
	}
	<-ctx.Done()
	stop() // a second interrupt ends the program at once
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}
