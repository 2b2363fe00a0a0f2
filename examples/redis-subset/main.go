// Redis-subset is a key-value server that speaks a little of the Redis protocol
// (RESP 2): PING, ECHO, SET, GET, DEL and INCR. It shows a parser for nested
// frames that come in any pieces, and a store that all connections share.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

// The largest command that is taken, in arguments and in bytes of one.
const (
	maxArgs = 1024
	maxBulk = 1 << 20
)

// store is what the connections share.
type store struct {
	mu     sync.Mutex
	values map[string]string // mu
}

// conn is the protocol of one connection.
type conn struct {
	strand.NopProtocol
	store *store
	t     strand.Transport
	in    []byte // a command that is not complete
	out   []byte // the answers to what came in one piece
}

func (c *conn) ConnectionMade(t strand.Transport) { c.t = t }

// A client that sends commands and reads no answers is not read from.
func (c *conn) PauseWriting()  { c.t.PauseReading() }
func (c *conn) ResumeWriting() { c.t.ResumeReading() }

// DataReceived answers all complete commands with one write: clients pipeline.
func (c *conn) DataReceived(data []byte) {
	if len(c.in) > 0 {
		c.in = append(c.in, data...)
		data = c.in
	}
	var err error
	for {
		var args [][]byte
		var rest []byte
		if args, rest, err = parse(data); err != nil {
			break
		}
		c.execute(args)
		data = rest
	}
	c.in = append(c.in[:0], data...) // data is only ours until we return
	if err != errIncomplete {
		c.out = fmt.Appendf(c.out, "-ERR Protocol error: %v\r\n", err)
		defer c.t.Close()
	}
	c.t.Write(c.out) // an error ends the connection, there is nothing else to do
	c.out = c.out[:0]
}

var errIncomplete = errors.New("more is to come")

// parse takes one command off data: an array of bulk strings, or a line of
// words as people type them. It returns errIncomplete if the end is missing.
func parse(data []byte) (args [][]byte, rest []byte, err error) {
	line, rest, found := bytes.Cut(data, []byte("\r\n"))
	switch {
	case !found && len(data) > maxBulk:
		return nil, nil, errors.New("too big inline request")
	case !found:
		return nil, nil, errIncomplete
	case len(line) == 0 || line[0] != '*':
		return bytes.Fields(line), rest, nil
	}
	n, err := length(line[1:], maxArgs)
	for ; err == nil && n > 0; n-- {
		var arg []byte
		arg, rest, err = bulk(rest)
		args = append(args, arg)
	}
	return args, rest, err
}

// bulk takes one "$5\r\nhello\r\n" off data.
func bulk(data []byte) (arg, rest []byte, err error) {
	line, rest, found := bytes.Cut(data, []byte("\r\n"))
	switch {
	case !found && len(data) < 32:
		return nil, nil, errIncomplete
	case !found || len(line) == 0 || line[0] != '$':
		return nil, nil, errors.New("expected '$'")
	}
	n, err := length(line[1:], maxBulk)
	switch {
	case err != nil:
		return nil, nil, err
	case len(rest) < n+2:
		return nil, nil, errIncomplete
	}
	return rest[:n], rest[n+2:], nil
}

func length(digits []byte, limit int) (int, error) {
	n, err := strconv.Atoi(string(digits))
	if err != nil || n < 0 || n > limit {
		return 0, errors.New("invalid length")
	}
	return n, nil
}

// execute answers one command.
func (c *conn) execute(args [][]byte) {
	if len(args) == 0 {
		return
	}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	values := c.store.values
	switch name := strings.ToUpper(string(args[0])); {
	case name == "PING" && len(args) == 1:
		c.out = append(c.out, "+PONG\r\n"...)
	case (name == "PING" || name == "ECHO") && len(args) == 2:
		c.bulk(string(args[1]))
	case name == "SET" && len(args) == 3:
		values[string(args[1])] = string(args[2])
		c.out = append(c.out, "+OK\r\n"...)
	case name == "GET" && len(args) == 2:
		if value, ok := values[string(args[1])]; ok {
			c.bulk(value)
		} else {
			c.out = append(c.out, "$-1\r\n"...)
		}
	case name == "DEL" && len(args) >= 2:
		before := len(values)
		for _, key := range args[1:] {
			delete(values, string(key))
		}
		c.number(before - len(values))
	case name == "INCR" && len(args) == 2:
		c.increment(string(args[1]))
	default:
		c.out = fmt.Appendf(c.out, "-ERR unknown command '%.64q', or wrong number of arguments\r\n", args[0])
	}
}

// increment is INCR, under the store's lock.
func (c *conn) increment(key string) {
	value, ok := c.store.values[key]
	if !ok {
		value = "0"
	}
	n, err := strconv.Atoi(value)
	if err != nil || n == math.MaxInt {
		c.out = append(c.out, "-ERR value is not an integer or out of range\r\n"...)
		return
	}
	c.store.values[key] = strconv.Itoa(n + 1)
	c.number(n + 1)
}

func (c *conn) bulk(value string) {
	c.out = fmt.Appendf(c.out, "$%d\r\n%s\r\n", len(value), value)
}

func (c *conn) number(n int) {
	c.out = fmt.Appendf(c.out, ":%d\r\n", n)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:6380", "`address` to listen on")
	program.Parse("redis-subset [flags]", "Serves PING, ECHO, SET, GET, DEL and INCR of the Redis protocol.")
	s := &store{values: make(map[string]string)}
	program.ServeTCP(*addr, func() *conn { return &conn{store: s} }, nil)
}
