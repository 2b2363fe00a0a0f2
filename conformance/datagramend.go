package conformance

import (
	"errors"
	"net"
	"strconv"
	"time"
)

// datagramEnd is a datagram socket of a peer; it sends to the transport.
type datagramEnd struct {
	run  *Run
	conn net.PacketConn
}

// maxDatagram is more than any datagram of a scenario has.
const maxDatagram = 4 * receiveChunk

func (e *datagramEnd) send(data []byte) error {
	_, err := e.conn.WriteTo(data, e.run.selfAddress)
	return err
}

func (e *datagramEnd) recv(int) ([]byte, error) {
	data, _, err := e.recvFrom()
	if err != nil {
		return nil, endError(errorName(err))
	}
	return data, nil
}

func (e *datagramEnd) recvFrom() ([]byte, net.Addr, error) {
	buf := make([]byte, maxDatagram)
	n, from, err := e.conn.ReadFrom(buf)
	return buf[:n], from, err
}

func (e *datagramEnd) close() error { return e.conn.Close() }

func (e *datagramEnd) setReadTimeout(d time.Duration) error {
	return e.conn.SetReadDeadline(time.Now().Add(d))
}

// recvShown receives count datagrams, by default one, with their senders.
func (e *datagramEnd) recvShown(p *peer, count string) error {
	n := 1
	if count != "" {
		var err error
		if n, err = strconv.Atoi(count); err != nil {
			return err
		}
	}
	for range n {
		data, from, err := e.recvFrom()
		if err != nil {
			return err
		}
		p.section.add("recv %s from %s", describe(data), e.run.addressName(from))
	}
	return nil
}

// drain receives count datagrams and shows only their number and bytes.
func (p *peer) drain(count string) error {
	e, ok := p.end.(*datagramEnd)
	n, err := strconv.Atoi(count)
	if !ok || err != nil {
		return errors.New("drain COUNT is for datagrams")
	}
	var got []byte
	for range n {
		data, _, err := e.recvFrom()
		if err != nil {
			return err
		}
		got = append(got, data...)
	}
	p.section.add("drain %s: %s", count, describe(got))
	return nil
}
