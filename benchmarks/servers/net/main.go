// Command net is the baseline of the comparison: what a Go programmer writes
// first, one goroutine with a 64 KiB buffer for each connection.
package main

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"os"

	"github.com/gostrand/strand/benchmarks/internal/serve"
)

func main() {
	o := serve.Flags()
	if o.Net == "udp" {
		echoDatagrams(o.Addr)
	}
	ln := o.Listen()
	handle := echo
	switch {
	case o.TLS:
		ln = tls.NewListener(ln, serve.TLSConfig())
	case o.File != "":
		handle = func(c net.Conn) { sendFile(c, o.File) }
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go handle(c)
	}
}

func echo(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// sendFile uses io.Copy, which finds sendfile(2) through TCPConn.ReadFrom.
func sendFile(c net.Conn, name string) {
	defer c.Close()
	f, err := os.Open(name)
	if err != nil {
		log.Print(err)
		return
	}
	defer f.Close()
	if _, err := io.Copy(c, f); err != nil {
		log.Print(err)
	}
}

func echoDatagrams(addr string) {
	local, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		log.Fatal(err)
	}
	c, err := net.ListenUDP("udp", local)
	if err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			log.Fatal(err)
		}
		// A reply that cannot be sent is lost, as datagrams are.
		_, _ = c.WriteToUDPAddrPort(buf[:n], from)
	}
}
