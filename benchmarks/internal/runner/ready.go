//go:build linux

package runner

import (
	"context"
	"errors"
	"net"
	"time"
)

// startLimit bounds the time until a server answers; Python may take a second.
const startLimit = 10 * time.Second

// freePort lets the kernel choose a port and gives it back.
func freePort(network string) (string, error) {
	if network == "udp" {
		c, err := net.ListenPacket(network, "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		return c.LocalAddr().String(), c.Close()
	}
	ln, err := net.Listen(network, "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// await returns when the server answers at addr.
func (p *process) await(ctx context.Context, network, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := probe(ctx, network, addr)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.exited()
		case <-ctx.Done():
			return errors.Join(errors.New("the server does not answer"), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func probe(ctx context.Context, network, addr string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if network != "udp" {
		return nil // listening is enough
	}
	if err := c.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("probe")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 16))
	return err
}
