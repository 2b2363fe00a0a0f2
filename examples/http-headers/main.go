// Http-headers asks a web server for a page's headers and prints them: lines
// over a stream, with or without TLS.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
	"github.com/gostrand/strand/streams"
)

func main() {
	program.Parse("http-headers URL", "Prints the headers of a page, http or https.")
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	program.Run(func(ctx context.Context) error { return run(ctx, flag.Arg(0)) })
}

func run(ctx context.Context, page string) error {
	u, err := url.Parse(page)
	if err != nil {
		return err
	}
	var opts streams.Options
	port := "80"
	switch u.Scheme {
	case "http":
	case "https":
		port = "443"
		opts.TLS = &strand.TLSOptions{} // the host's certificate is verified
	default:
		return errors.New("the URL must begin with http:// or https://")
	}
	address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	r, w, err := streams.OpenConnection(ctx, "tcp", address, &opts)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := fmt.Fprintf(w, "HEAD %s HTTP/1.0\r\nHost: %s\r\n\r\n", u.RequestURI(), u.Host); err != nil {
		return err
	}
	for line, err := range r.Lines(ctx) {
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return nil // the end of the headers
		}
		fmt.Printf("%s\n", line)
	}
	return errors.New("the server has closed the connection before the end of the headers")
}
