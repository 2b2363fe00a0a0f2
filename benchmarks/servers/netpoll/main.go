// Command netpoll echoes with github.com/cloudwego/netpoll, default options.
package main

import (
	"context"
	"log"

	"github.com/cloudwego/netpoll"

	"github.com/gostrand/strand/benchmarks/internal/serve"
)

func main() {
	o := serve.Flags()
	ln, err := netpoll.CreateListener(o.Net, o.Addr)
	if err != nil {
		log.Fatal(err)
	}
	loop, err := netpoll.NewEventLoop(echo)
	if err != nil {
		log.Fatal(err)
	}
	if err := loop.Serve(ln); err != nil {
		log.Fatal(err)
	}
}

// echo lends the reader's memory to the writer without a copy: Flush returns
// when the kernel has it, and only then Release gives it back.
func echo(_ context.Context, c netpoll.Connection) error {
	r, w := c.Reader(), c.Writer()
	data, err := r.Next(r.Len())
	if err != nil {
		return err
	}
	if _, err := w.WriteBinary(data); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return r.Release()
}
