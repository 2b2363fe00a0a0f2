// Command bufio is the other common goroutine loop: a 4 KiB bufio.Reader and
// bufio.Writer for each connection.
package main

import (
	"bufio"
	"log"
	"net"

	"github.com/gostrand/strand/benchmarks/internal/serve"
)

func main() {
	ln := serve.Flags().Listen()
	for {
		c, err := ln.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go echo(c)
	}
}

func echo(c net.Conn) {
	defer c.Close()
	rw := bufio.NewReadWriter(bufio.NewReaderSize(c, 4096), bufio.NewWriterSize(c, 4096))
	for {
		if err := echoOnce(rw); err != nil {
			return
		}
	}
}

// echoOnce waits for bytes, then echoes all that came with them.
func echoOnce(rw *bufio.ReadWriter) error {
	if _, err := rw.Peek(1); err != nil {
		return err
	}
	data, err := rw.Peek(rw.Reader.Buffered())
	if err != nil {
		return err
	}
	if _, err := rw.Write(data); err != nil {
		return err
	}
	if _, err := rw.Discard(len(data)); err != nil {
		return err
	}
	return rw.Flush()
}
