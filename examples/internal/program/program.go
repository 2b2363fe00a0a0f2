// Package program is what the examples have in common, so that each of them
// shows nothing but what it is about: their command line, what they do about an
// interrupt, and how a server ends.
package program

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/gostrand/strand"
)

// Parse parses the command line. For -h, usage says how it is written and about
// what the program does.
func Parse(usage, about string) {
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: %s\n\n%s\n\n", usage, about)
		flag.PrintDefaults()
	}
	flag.Parse()
}

// Run runs run, whose error ends the program. ctx ends with an interrupt; a
// second one ends the program at once.
func Run(run func(ctx context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

// Serve says where a server listens, waits for the end of ctx, and then lets
// its connections finish for up to five seconds.
func Serve(ctx context.Context, server *strand.Server) error {
	for _, a := range server.Addrs() {
		fmt.Println("listening on", a)
	}
	<-ctx.Done()
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}

// ServeTCP is the whole life of a program that is a TCP server.
func ServeTCP[P strand.Protocol](addr string, factory func() P, opts *strand.ServerOptions) {
	Run(func(ctx context.Context) error {
		server, err := strand.CreateServer(ctx, "tcp", addr, factory, opts)
		if err != nil {
			return err
		}
		return Serve(ctx, server)
	})
}
