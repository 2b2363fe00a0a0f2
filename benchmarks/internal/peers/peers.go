// Package peers knows the servers of the comparison: how each is built, what
// it can do and how it is started.
package peers

import (
	"slices"

	"github.com/gostrand/strand/benchmarks/internal/scenario"
)

// Base is the server that all others are compared with.
const Base = "net"

// A Server is one program, built and ready to start.
type Server struct {
	Name    string
	Kinds   []scenario.Kind
	command func(Listen) []string
}

// Can tells whether the server takes part in scenarios of a kind.
func (s Server) Can(k scenario.Kind) bool { return slices.Contains(s.Kinds, k) }

// Command returns the argument vector.
func (s Server) Command(l Listen) []string { return s.command(l) }

// A Listen says where and what to serve.
type Listen struct {
	Kind      scenario.Kind
	Addr      string
	Cert, Key string // PEM files, for the servers that cannot make their own
	File      string // the file of scenario.File
}

// flags are the ones that all servers share.
func (l Listen) flags() []string {
	f := []string{"-net", l.Kind.Net(), "-addr", l.Addr}
	switch l.Kind {
	case scenario.TLS:
		f = append(f, "-tls")
	case scenario.File:
		f = append(f, "-file", l.File)
	}
	return f
}

// A LeftOut is a server, or a part of one, that does not take part.
type LeftOut struct{ Name, Reason string }

// recipe is how a server comes about; build returns its command.
type recipe struct {
	name  string
	kinds []scenario.Kind
	build func(b *builder) (func(Listen) []string, error)
}

// recipes are in the order of the tables.
func recipes() []recipe {
	const tcp, unix, udp, tls, file = scenario.TCP, scenario.Unix, scenario.UDP, scenario.TLS, scenario.File
	type kinds = []scenario.Kind
	return []recipe{
		{"net", kinds{tcp, unix, udp, tls, file}, goServer("net")},
		{"strand", kinds{tcp, unix, udp, tls}, strandEcho},
		{"strand", kinds{file}, goServer("strand-file")},
		{"bufio", kinds{tcp, unix}, goServer("bufio")},
		{"gnet", kinds{tcp, unix, udp}, goServer("gnet")},
		{"netpoll", kinds{tcp, unix}, goServer("netpoll")},
		{"evio", kinds{tcp, unix}, goServer("evio")},
		{"nbio", kinds{tcp, unix}, goServer("nbio")},
		{"asyncio", kinds{tcp, unix, udp, tls, file}, asyncio()},
		{"asyncio-buffered", kinds{tcp, unix, tls}, asyncio("-buffered")},
		{"uvloop", kinds{tcp, unix, udp, tls}, uvloop},
		{"c-epoll", kinds{tcp, unix, udp}, cEpoll},
	}
}

// Names returns the names of all servers, once each.
func Names() []string {
	var names []string
	for _, r := range recipes() {
		if !slices.Contains(names, r.name) {
			names = append(names, r.name)
		}
	}
	return names
}
