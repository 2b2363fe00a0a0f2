// Http-responder answers every HTTP/1.1 request with the same few words. It
// keeps connections alive, answers pipelined requests in order with one write,
// and leaves everything else to net/http: it shows how a protocol parses what
// comes in any pieces.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"strconv"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

// maxHead is the largest head of a request: its first line and its fields.
const maxHead = 16 << 10

const hello = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, strand!"

// responder is the protocol of one connection.
type responder struct {
	strand.NopProtocol
	t    strand.Transport
	in   []byte // a request whose head is not complete
	out  []byte // the answers to what came in one piece
	body int64  // bytes of the last request's body that are still to come
}

func (r *responder) ConnectionMade(t strand.Transport) { r.t = t }

// A client that sends requests and reads no answers is not read from.
func (r *responder) PauseWriting()  { r.t.PauseReading() }
func (r *responder) ResumeWriting() { r.t.ResumeReading() }

func (r *responder) DataReceived(data []byte) {
	if len(r.in) > 0 {
		r.in = append(r.in, data...)
		data = r.in
	}
	rest, last := r.answer(data)
	r.in = append(r.in[:0], rest...) // data is only ours until we return
	r.t.Write(r.out)                 // an error ends the connection, there is nothing else to do
	r.out = r.out[:0]
	if last {
		r.t.Close()
	}
}

// answer answers all complete requests in data, and returns what is left and
// whether the connection is to be closed.
func (r *responder) answer(data []byte) (rest []byte, last bool) {
	for !last {
		skip := min(r.body, int64(len(data)))
		data, r.body = data[skip:], r.body-skip
		end := bytes.Index(data, []byte("\r\n\r\n"))
		switch {
		case r.body > 0 || end < 0 && len(data) <= maxHead:
			return data, false
		case end < 0 || end > maxHead:
			return nil, r.refuse(431, "Request Header Fields Too Large")
		}
		last = r.request(data[:end])
		data = data[end+4:]
	}
	return nil, true
}

// request answers one request, whose head it gets without the empty line.
func (r *responder) request(head []byte) (last bool) {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	words := bytes.Fields(line)
	if len(words) != 3 || !bytes.HasPrefix(words[2], []byte("HTTP/1.")) {
		return r.refuse(400, "Bad Request")
	}
	last = string(words[2]) == "HTTP/1.0"
	for len(fields) > 0 {
		var field []byte
		field, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		name, value, found := bytes.Cut(field, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case !found:
			return r.refuse(400, "Bad Request")
		case bytes.EqualFold(name, []byte("Connection")):
			last = last || bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return r.refuse(501, "Not Implemented")
		case bytes.EqualFold(name, []byte("Content-Length")):
			n, err := strconv.ParseUint(string(value), 10, 62)
			if err != nil {
				return r.refuse(400, "Bad Request")
			}
			r.body = int64(n)
		}
	}
	r.out = append(r.out, hello...)
	return last
}

// refuse answers with an error, after which the connection is closed.
func (r *responder) refuse(status int, reason string) (last bool) {
	r.out = fmt.Appendf(r.out, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, reason)
	return true
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` to listen on")
	program.Parse("http-responder [flags]", "Answers every HTTP/1.1 request with the same few words.")
	program.ServeTCP(*addr, func() *responder { return new(responder) }, nil)
}
