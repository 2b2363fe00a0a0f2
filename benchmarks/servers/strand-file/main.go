// Command strand-file sends a file to every connection with strand.Sendfile.
package main

import (
	"context"
	"log"
	"os"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/benchmarks/internal/serve"
)

// sender sends the file as soon as the connection is made. Sendfile blocks, and
// in a callback it holds up its own connection, which has nothing else to do.
type sender struct {
	strand.NopProtocol
	name string
}

func (s *sender) ConnectionMade(t strand.Transport) {
	defer t.Close()
	f, err := os.Open(s.name)
	if err != nil {
		log.Print(err)
		return
	}
	defer f.Close()
	if _, err := strand.Sendfile(context.Background(), t, f, 0, 0); err != nil {
		log.Print(err)
	}
}

func main() {
	o := serve.Flags()
	factory := func() *sender { return &sender{name: o.File} }
	server, err := strand.CreateServer(context.Background(), o.Net, o.Addr, factory, nil)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.ServeForever(context.Background()))
}
