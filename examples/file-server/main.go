// File-server sends files. A client sends a line with a name, and gets a line
// with "ok" and the size, or "error" and a reason, and then the file, which the
// kernel sends without a copy through this program.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

// maxLine is the longest line that a client may send.
const maxLine = 4096

// files is the protocol of one connection: any number of requests, one after
// the other.
type files struct {
	strand.NopProtocol
	root *os.Root // nothing outside of it can be asked for
	t    strand.Transport
	line []byte // the beginning of a request
}

func (f *files) ConnectionMade(t strand.Transport) { f.t = t }

func (f *files) DataReceived(data []byte) {
	f.line = append(f.line, data...)
	for {
		name, rest, found := bytes.Cut(f.line, []byte("\n"))
		if !found {
			break
		}
		f.line = rest
		if err := f.send(string(bytes.TrimSuffix(name, []byte("\r")))); err != nil {
			log.Printf("%v: %v", f.t.RemoteAddr(), err)
			f.t.Abort() // what was promised cannot be kept
			return
		}
	}
	if len(f.line) > maxLine {
		fmt.Fprintf(f.t, "error the line is too long\n")
		f.t.Close()
	}
}

// send answers one request. Sendfile blocks, which in a callback holds up this
// connection and no other.
func (f *files) send(name string) error {
	file, err := f.root.Open(name)
	if err != nil {
		_, err := fmt.Fprintf(f.t, "error %v\n", err)
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		_, err := fmt.Fprintf(f.t, "error %s is not a regular file\n", name)
		return err
	}
	if _, err := fmt.Fprintf(f.t, "ok %d\n", info.Size()); err != nil {
		return err
	}
	sent, err := strand.Sendfile(f.t.Context(), f.t, file, 0, info.Size())
	if err == nil && sent < info.Size() {
		err = fmt.Errorf("%s has become shorter", name)
	}
	return err
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8890", "`address` to listen on")
	dir := flag.String("dir", ".", "`directory` with the files")
	program.Parse("file-server [flags]", "Sends the files of a directory to whoever sends their names.")
	root, err := os.OpenRoot(*dir)
	if err != nil {
		log.Fatal(err)
	}
	program.ServeTCP(*addr, func() *files { return &files{root: root} }, nil)
}
