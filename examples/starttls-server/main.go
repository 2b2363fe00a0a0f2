// Starttls-server begins in clear and goes on over TLS: a mail server, as far
// as its clients can tell, that takes mail only over TLS, prints it and
// forgets it.
//
//	openssl s_client -starttls smtp -crlf -connect 127.0.0.1:2525
//	curl --ssl-reqd -k smtp://127.0.0.1:2525 --mail-from a@b --mail-rcpt c@d -T file
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"strings"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
	"github.com/gostrand/strand/examples/internal/selfsigned"
)

// maxLine is the longest line that is taken.
const maxLine = 2000

// session is one client's conversation.
type session struct {
	strand.NopProtocol
	t      strand.Transport
	tls    *strand.TLSOptions
	rest   []byte // the beginning of a line
	secure bool
	inMail bool // after DATA
	mail   strings.Builder
}

func (s *session) ConnectionMade(t strand.Transport) {
	s.t = t
	s.answer("220 localhost ready")
}

func (s *session) answer(line string) { s.t.Write([]byte(line + "\r\n")) }

func (s *session) DataReceived(data []byte) {
	s.rest = append(s.rest, data...)
	for {
		line, rest, found := bytes.Cut(s.rest, []byte("\n"))
		if !found {
			break
		}
		s.rest = rest
		s.line(strings.TrimSuffix(string(line), "\r"))
	}
	if len(s.rest) > maxLine {
		s.answer("500 that is too long")
		s.t.Close()
	}
}

func (s *session) line(line string) {
	if s.inMail {
		s.mailLine(line)
		return
	}
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	switch {
	case verb == "EHLO" || verb == "HELO":
		if s.secure {
			s.answer("250 localhost")
		} else {
			s.answer("250-localhost\r\n250 STARTTLS")
		}
	case verb == "QUIT":
		s.answer("221 goodbye")
		s.t.Close()
	case verb == "NOOP":
		s.answer("250 ok")
	case verb == "STARTTLS" && !s.secure:
		s.upgrade()
	case !s.secure:
		s.answer("530 STARTTLS first")
	case verb == "MAIL" || verb == "RCPT":
		s.answer("250 ok")
	case verb == "DATA":
		s.answer("354 go on, end with a dot")
		s.inMail = true
	default:
		s.answer("500 what?")
	}
}

// upgrade answers in clear and begins TLS. A client that has sent more already
// has not waited for the answer: if that was taken for the beginning of the
// encrypted conversation, anybody could have put it there.
func (s *session) upgrade() {
	if len(s.rest) > 0 {
		s.answer("501 nothing may follow STARTTLS")
		s.t.Close()
		return
	}
	s.answer("220 go ahead")
	err := strand.StartTLS(s.t, s.tls, func(err error) {
		s.secure = err == nil // if it is not nil, ConnectionLost is next
	})
	if err != nil {
		log.Printf("%v: %v", s.t.RemoteAddr(), err)
		s.t.Abort() // whatever it is: it does not go on in clear
	}
}

func (s *session) mailLine(line string) {
	if line != "." {
		fmt.Fprintln(&s.mail, strings.TrimPrefix(line, "."))
		return
	}
	fmt.Print("mail:\n", s.mail.String())
	s.mail.Reset()
	s.inMail = false
	s.answer("250 taken")
}

func (s *session) ConnectionLost(err error) {
	if err != nil {
		log.Printf("%v lost: %v", s.t.RemoteAddr(), err)
	}
}

func main() {
	addr := flag.String("addr", "127.0.0.1:2525", "`address` to listen on; port 0 takes a free one")
	config := selfsigned.Flags()
	program.Parse("starttls-server [-addr address] [-cert file -key file]",
		"Speaks a little SMTP, takes mail only after STARTTLS and prints it, until it\nis interrupted.")
	tlsConfig, err := config()
	if err != nil {
		log.Fatal(err)
	}
	opts := &strand.TLSOptions{Config: tlsConfig, ServerSide: true}
	program.ServeTCP(*addr, func() *session { return &session{tls: opts} }, nil)
}
