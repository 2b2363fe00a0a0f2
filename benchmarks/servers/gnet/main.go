// Command gnet echoes with github.com/panjf2000/gnet/v2, one event loop for
// each processor (its usual setting; with one processor, one loop).
package main

import (
	"log"

	"github.com/panjf2000/gnet/v2"

	"github.com/gostrand/strand/benchmarks/internal/serve"
)

type echo struct{ gnet.BuiltinEventEngine }

func (*echo) OnTraffic(c gnet.Conn) gnet.Action {
	data, err := c.Next(-1)
	if err != nil {
		return gnet.Close
	}
	if _, err := c.Write(data); err != nil {
		return gnet.Close
	}
	return gnet.None
}

func main() {
	o := serve.Flags()
	if err := gnet.Run(&echo{}, o.URL(), gnet.WithMulticore(true)); err != nil {
		log.Fatal(err)
	}
}
