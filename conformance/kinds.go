package conformance

import (
	"context"
	"net"
	"path/filepath"

	"github.com/gostrand/strand"
)

// starters set up each kind of transport and its peers, and create it.
var starters = map[string]func(*Run) error{
	"tcp":        startStream,
	"udp":        startDatagram,
	"unixgram":   startDatagram,
	"unix":       startStream,
	"read_pipe":  startPipe,
	"write_pipe": startPipe,
	"subprocess": startSubprocess,
}

func startStream(r *Run) error {
	switch r.scenario.Role {
	case "server":
		return startServer(r)
	case "client":
		return startClient(r)
	}
	return startAttached(r)
}

// address is where listeners of this run listen.
func (r *Run) address() (network, address string) {
	if r.scenario.Kind == "unix" {
		return "unix", filepath.Join(r.dir, "listener")
	}
	return "tcp", "127.0.0.1:0"
}

// listen makes the listening socket that peers accept from.
func (r *Run) listen() error {
	network, address := r.address()
	lc := net.ListenConfig{Control: r.preparePeer, KeepAlive: -1}
	ln, err := lc.Listen(context.Background(), network, address)
	if err != nil {
		return err
	}
	if unix, ok := ln.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false) // refusing is not the same as missing
	}
	r.nameAddress(ln.Addr(), "listener")
	r.closeLater(ln)
	r.listener = ln
	if r.scenario.Options.Refuse {
		return ln.Close()
	}
	return nil
}

func (r *Run) addPeers() {
	for i, steps := range r.scenario.Peers {
		r.peers = append(r.peers, newPeer(r, i, steps))
	}
}

func (r *Run) factory() strand.Protocol { return r.connection().streamProtocol(0) }

func startClient(r *Run) error {
	if err := r.listen(); err != nil {
		return err
	}
	r.addPeers()
	r.startPeers()
	r.created(func() error {
		addr := r.listener.Addr()
		tls, err := r.tlsOptions()
		if err != nil {
			return err
		}
		opts := &strand.ConnectOptions{TransportOptions: r.options(), TLS: tls}
		_, _, err = strand.CreateConnection(context.Background(), addr.Network(), addr.String(), r.factory, opts)
		return err
	})
	return nil
}

func startServer(r *Run) error {
	network, address := r.address()
	tls, err := r.tlsOptions()
	if err != nil {
		return err
	}
	opts := &strand.ServerOptions{TransportOptions: r.options(), TLS: tls, DelayStart: r.scenario.Options.DelayStart}
	server, err := strand.CreateServer(context.Background(), network, address, r.factory, opts)
	if err != nil {
		return err
	}
	r.server, r.serverAddress = server, server.Addrs()[0]
	r.nameAddress(r.serverAddress, "listener")
	r.main.add("create ok")
	r.board.post("created", 1)
	r.addPeers()
	r.startPeers()
	return nil
}

// startAttached connects two sockets, gives one to strand and the other to the
// peer.
func startAttached(r *Run) error {
	if err := r.listen(); err != nil {
		return err
	}
	d := net.Dialer{KeepAlive: -1}
	ours, err := d.Dial(r.listener.Addr().Network(), r.listener.Addr().String())
	if err != nil {
		return err
	}
	r.closeLater(ours)
	theirs, err := r.listener.Accept()
	if err != nil {
		return err
	}
	r.addPeers()
	if err := r.peers[0].adopt(&socketEnd{theirs}); err != nil {
		return err
	}
	r.startPeers()
	r.created(func() error {
		tls, err := r.tlsOptions()
		if err != nil {
			return err
		}
		opts := &strand.AttachOptions{TransportOptions: r.options(), TLS: tls}
		_, _, err = strand.Attach(context.Background(), ours, r.factory, opts)
		return err
	})
	return nil
}
