// Package serve is what the example servers have in common: they listen, say
// where, and on an interrupt finish what they are doing.
package serve

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

// Parse parses the command line of a program; about says what it does.
func Parse(name, about string) {
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: %s [flags]\n\n%s\n\n", name, about)
		flag.PrintDefaults()
	}
	flag.Parse()
}

// Forever serves TCP connections until the program is interrupted, and ends it
// if that fails.
func Forever[P strand.Protocol](addr string, factory func() P, opts *strand.ServerOptions) {
	if err := untilInterrupt(addr, factory, opts); err != nil {
		log.Fatal(err)
	}
}

func untilInterrupt[P strand.Protocol](addr string, factory func() P, opts *strand.ServerOptions) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	server, err := strand.CreateServer(ctx, "tcp", addr, factory, opts)
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
