package conformance

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/gostrand/strand"
)

// A connection is what the protocols of one transport share. Its callbacks
// touch it, and the application between two of them.
type connection struct {
	run       *Run
	name      string
	section   *section
	source    source
	transport strand.BaseTransport
	received  int
	finished  []string // subprocesses: what has ended
}

func (c *connection) post(event string, n int) { c.run.board.post(c.name+"."+event, n) }

// reactions is what one protocol does in its callbacks, by name, number and
// byte count.
type reactions struct {
	conn   *connection
	number int
	spec   ProtocolSpec
	prefix string
	counts map[string]int
}

func (c *connection) reactions(number int) *reactions {
	r := &reactions{conn: c, number: number, spec: c.run.scenario.Protocols[number], counts: make(map[string]int)}
	if number > 0 {
		r.prefix = fmt.Sprintf("p%d.", number)
	}
	return r
}

func (r *reactions) self() *reactions { return r }

func (r *reactions) line(s *section, format string, args ...any) {
	s.add("%s%s", r.prefix, fmt.Sprintf(format, args...))
}

// fire runs the actions of one occurrence and then posts it, also if they
// panic.
func (r *reactions) fire(event string, s *section) (answer bool) {
	r.counts[event]++
	defer r.conn.post(event, 1)
	actions := slices.Concat(r.spec.On[event], r.spec.On[fmt.Sprintf("%s#%d", event, r.counts[event])])
	return r.conn.perform(actions, s)
}

// fireBytes runs the actions due when a byte count passes their mark.
func (r *reactions) fireBytes(event string, before, n int, s *section) {
	defer r.conn.post(event, n)
	actions := slices.Clone(r.spec.On[event])
	for _, at := range r.marks(event) {
		if before < at && at <= before+n {
			actions = append(actions, r.spec.On[fmt.Sprintf("%s@%d", event, at)]...)
		}
	}
	r.conn.perform(actions, s)
}

func (r *reactions) marks(event string) []int {
	var marks []int
	for key := range r.spec.On {
		if at, ok := strings.CutPrefix(key, event+"@"); ok {
			n, err := strconv.Atoi(at)
			if err != nil {
				r.conn.run.board.fail(err)
			}
			marks = append(marks, n)
		}
	}
	slices.Sort(marks)
	return marks
}

// made notes the transport of a connection that has begun.
func (r *reactions) made(t strand.BaseTransport) {
	r.conn.transport = t
	r.conn.run.prepareTransport(t)
	r.line(r.conn.section, "made")
	r.fire("made", r.conn.section)
}

func (r *reactions) ConnectionLost(err error) {
	r.line(r.conn.section, "lost %s", r.conn.run.errorName(err))
	r.fire("lost", r.conn.section)
}

func (r *reactions) PauseWriting() {
	r.line(r.conn.section, "pause")
	r.fire("pause", r.conn.section)
}

func (r *reactions) ResumeWriting() {
	r.line(r.conn.section, "resume")
	r.fire("resume", r.conn.section)
}

// streamProtocol is a strand.Protocol.
type streamProtocol struct{ *reactions }

func (p *streamProtocol) ConnectionMade(t strand.Transport) { p.made(t) }
func (p *streamProtocol) DataReceived(data []byte)          { p.receive("data", data) }

func (p *streamProtocol) EOFReceived() bool {
	p.line(p.conn.section, "eof")
	return p.fire("eof", p.conn.section)
}

func (p *streamProtocol) receive(label string, data []byte) {
	c := p.conn
	if len(data) == 0 {
		c.run.board.fail(fmt.Errorf("%s: received nothing", label))
	}
	c.section.data(p.prefix+label, data)
	before := c.received
	c.received += len(data)
	if p.spec.Echo {
		if _, err := c.transport.(strand.Transport).Write(data); err != nil {
			c.section.add("  echo -> %s", errorName(err))
		}
	}
	p.fireBytes("data", before, len(data), c.section)
}

// bufferedProtocol is a strand.BufferedProtocol.
type bufferedProtocol struct {
	streamProtocol
	buffer []byte
}

func (p *bufferedProtocol) GetBuffer(int) []byte {
	p.fire("get_buffer", p.conn.section)
	return p.buffer
}

func (p *bufferedProtocol) BufferUpdated(n int) { p.receive("buffer", p.buffer[:n]) }

// streamProtocol makes the protocol of one entry of "protocols".
func (c *connection) streamProtocol(number int) strand.Protocol {
	r := c.reactions(number)
	if r.spec.Kind != "buffered" {
		return &streamProtocol{r}
	}
	size := 65536
	if r.spec.Buffer != nil {
		size = *r.spec.Buffer
	}
	return &bufferedProtocol{streamProtocol{r}, make([]byte, size)}
}

// datagramProtocol is a strand.DatagramProtocol.
type datagramProtocol struct{ *reactions }

func (p *datagramProtocol) ConnectionMade(t strand.DatagramTransport) { p.made(t) }

func (p *datagramProtocol) DatagramReceived(data []byte, addr net.Addr) {
	p.line(p.conn.section, "dgram %s from %s", describe(data), p.conn.run.addressName(addr))
	p.fire("dgram", p.conn.section)
}

func (p *datagramProtocol) ErrorReceived(err error) {
	p.line(p.conn.section, "error %s", p.conn.run.errorName(err))
	p.fire("error", p.conn.section)
}

// subprocessProtocol is a strand.SubprocessProtocol. Each pipe has a section of
// its own: between pipes no order is defined.
type subprocessProtocol struct {
	*reactions
	pipeBytes [3]int
}

func (p *subprocessProtocol) pipe(fd int) *section {
	return p.conn.run.trace.section(fmt.Sprintf("%s.fd%d", p.conn.name, fd))
}

func (p *subprocessProtocol) ConnectionMade(t strand.SubprocessTransport) { p.made(t) }

func (p *subprocessProtocol) PauseWriting() {
	p.line(p.pipe(0), "pause")
	p.fire("pause", p.pipe(0))
}

func (p *subprocessProtocol) ResumeWriting() {
	p.line(p.pipe(0), "resume")
	p.fire("resume", p.pipe(0))
}

func (p *subprocessProtocol) PipeDataReceived(fd int, data []byte) {
	p.pipe(fd).data(p.prefix+"data", data)
	before := p.pipeBytes[fd]
	p.pipeBytes[fd] += len(data)
	p.fireBytes(fmt.Sprintf("fd%d", fd), before, len(data), p.pipe(fd))
}

func (p *subprocessProtocol) PipeConnectionLost(fd int, err error) {
	p.line(p.pipe(fd), "lost %s", p.conn.run.errorName(err))
	p.conn.finished = append(p.conn.finished, fmt.Sprintf("fd%d", fd))
	p.fire(fmt.Sprintf("fd%d_lost", fd), p.pipe(fd))
}

func (p *subprocessProtocol) ProcessExited() {
	p.line(p.conn.section, "exited %s", returnCode(p.conn.transport))
	p.conn.finished = append(p.conn.finished, "exited")
	p.fire("exited", p.conn.section)
}

func (p *subprocessProtocol) ConnectionLost(err error) {
	slices.Sort(p.conn.finished)
	p.line(p.conn.section, "lost %s after %s", p.conn.run.errorName(err), strings.Join(p.conn.finished, " "))
	p.fire("lost", p.conn.section)
}

var (
	_ strand.Protocol           = (*streamProtocol)(nil)
	_ strand.BufferedProtocol   = (*bufferedProtocol)(nil)
	_ strand.DatagramProtocol   = (*datagramProtocol)(nil)
	_ strand.SubprocessProtocol = (*subprocessProtocol)(nil)
)
