// Command evio echoes with github.com/tidwall/evio, one loop for each
// processor and without its copy of every input.
package main

import (
	"log"

	"github.com/tidwall/evio"

	"github.com/gostrand/strand/benchmarks/internal/serve"
)

func main() {
	o := serve.Flags()
	var events evio.Events
	events.NumLoops = -1
	events.Opened = func(evio.Conn) (out []byte, opts evio.Options, action evio.Action) {
		opts.ReuseInputBuffer = true
		return
	}
	events.Data = func(_ evio.Conn, in []byte) (out []byte, action evio.Action) {
		return in, evio.None
	}
	if err := evio.Serve(events, o.URL()); err != nil {
		log.Fatal(err)
	}
}
