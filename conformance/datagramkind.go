package conformance

import (
	"context"
	"net"
	"path/filepath"

	"github.com/gostrand/strand"
)

// startDatagram makes the peers' sockets, so that their addresses have names,
// and then the endpoint.
func startDatagram(r *Run) error {
	r.addPeers()
	for _, p := range r.peers {
		if err := r.bindPeer(p); err != nil {
			return err
		}
	}
	if r.scenario.Options.Refuse {
		if err := r.peers[0].raw.close(); err != nil {
			return err
		}
	}
	r.created(r.createEndpoint)
	r.startPeers()
	return nil
}

// bindPeer gives a peer its socket.
func (r *Run) bindPeer(p *peer) error {
	network, address := r.datagramAddress(p.name)
	lc := net.ListenConfig{Control: r.preparePeer}
	conn, err := lc.ListenPacket(context.Background(), network, address)
	if err != nil {
		return err
	}
	r.nameAddress(conn.LocalAddr(), p.name)
	r.closeLater(conn)
	e := &datagramEnd{r, conn}
	p.end, p.raw = e, e
	return e.setReadTimeout(r.timeout)
}

func (r *Run) datagramAddress(name string) (network, address string) {
	if r.scenario.Kind == "unixgram" {
		return "unixgram", filepath.Join(r.dir, name)
	}
	return "udp4", "127.0.0.1:0"
}

func (r *Run) createEndpoint() error {
	network, local := r.datagramAddress("self")
	o := r.scenario.Options
	if o.RemoteOnly {
		local = ""
	}
	remote := ""
	if o.Connected {
		remote = r.addressOf("peer0").String()
	}
	opts := &strand.DatagramOptions{TransportOptions: r.options(), Broadcast: o.Broadcast}
	factory := func() strand.DatagramProtocol {
		c := r.connection()
		return &datagramProtocol{c.reactions(0)}
	}
	t, _, err := strand.CreateDatagramEndpoint(context.Background(), network, local, remote, factory, opts)
	if err != nil {
		return err
	}
	r.selfAddress = t.LocalAddr()
	r.nameAddress(r.selfAddress, "self")
	return nil
}
