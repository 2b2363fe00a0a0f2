// Command nbio echoes with github.com/lesismal/nbio, default pollers.
package main

import (
	"log"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"

	"github.com/gostrand/strand/benchmarks/internal/serve"
)

func main() {
	o := serve.Flags()
	logging.SetLevel(logging.LevelError)
	engine := nbio.NewEngine(nbio.Config{Network: o.Net, Addrs: []string{o.Addr}})
	// Write copies what the kernel does not take, so data need not be copied here.
	engine.OnData(func(c *nbio.Conn, data []byte) {
		if _, err := c.Write(data); err != nil {
			c.Close()
		}
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	select {}
}
