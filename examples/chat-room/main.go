// Chat-room sends every line that a member writes to all the others. It shows
// writing to connections from other connections' callbacks, and what to do
// about members who read too slowly: they miss lines, and are told how many.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"sync"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

// maxLine is the longest line that a member may write.
const maxLine = 1024

// room is who is there.
type room struct {
	mu      sync.Mutex
	members map[*member]struct{} // mu
	nextID  int                  // mu
}

// say sends a line to everybody but its author. Write never blocks, so that the
// lock is held only for a moment, and no member can keep the others waiting.
func (r *room) say(author *member, line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for m := range r.members {
		if m != author {
			m.hear(line)
		}
	}
}

// member is the protocol of one connection.
type member struct {
	strand.NopProtocol
	room *room
	t    strand.Transport
	name string
	line []byte // the beginning of what the member is writing

	missed int // room.mu; lines not sent since the output is paused
}

// hear sends one line to the member, unless too much is waiting for it already.
// The room's lock is held.
func (m *member) hear(line string) {
	if !m.t.Writable() {
		m.missed++
		return
	}
	fmt.Fprintln(m.t, line) // after the end of the connection it fails, and that is fine
}

func (m *member) ConnectionMade(t strand.Transport) {
	m.t = t
	m.room.mu.Lock()
	m.room.nextID++
	m.name = fmt.Sprint("member ", m.room.nextID)
	m.room.members[m] = struct{}{}
	m.hear("you are " + m.name)
	m.room.mu.Unlock()
	m.room.say(m, m.name+" has come")
}

func (m *member) DataReceived(data []byte) {
	m.line = append(m.line, data...)
	for {
		line, rest, found := bytes.Cut(m.line, []byte("\n"))
		if !found {
			break
		}
		m.room.say(m, m.name+": "+string(bytes.TrimSuffix(line, []byte("\r"))))
		m.line = rest
	}
	if len(m.line) > maxLine {
		m.t.Close()
	}
}

// ResumeWriting comes when the member has caught up.
func (m *member) ResumeWriting() {
	m.room.mu.Lock()
	defer m.room.mu.Unlock()
	if m.missed > 0 {
		m.hear(fmt.Sprintf("you have missed %d lines", m.missed))
		m.missed = 0
	}
}

func (m *member) ConnectionLost(error) {
	m.room.mu.Lock()
	delete(m.room.members, m)
	m.room.mu.Unlock()
	m.room.say(m, m.name+" has left")
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8891", "`address` to listen on")
	program.Parse("chat-room [flags]", "Sends every line that a member writes to all the others.")
	r := &room{members: make(map[*member]struct{})}
	program.ServeTCP(*addr, func() *member { return &member{room: r} }, nil)
}
