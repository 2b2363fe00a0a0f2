package examples

import (
	"net"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUDPEchoServerAndClient(t *testing.T) {
	addr, stop := start(t, "udp-echo-server", "-addr", own)
	require.Equal(t, "sent: \"Hello World!\"\nreceived: \"Hello World!\"\n", output(t, "udp-echo-client", "-addr", addr))
	require.Equal(t, "sent: \"\"\nreceived: \"\"\n", output(t, "udp-echo-client", "-addr", addr, "-message", ""))
	stop()

	out, err := program(t, "udp-echo-client", "-addr", addr).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "nobody receives any more: %s", out)
	require.Equal(t, 1, exit.ExitCode())
	require.Contains(t, string(out), "refused")
}

// A client whose first datagram is lost sends another one.
func TestUDPEchoClientTriesAgain(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer pc.Close()
	go func() {
		buf := make([]byte, 100)
		pc.ReadFrom(buf)
		n, from, err := pc.ReadFrom(buf)
		if err == nil {
			pc.WriteTo(buf[:n], from)
		}
	}()
	require.Equal(t, "sent: \"x\"\nreceived: \"x\"\n", output(t, "udp-echo-client", "-addr", pc.LocalAddr().String(), "-message", "x"))
}

func TestEchoBenchServerUDP(t *testing.T) {
	addr, stop := start(t, "echo-bench-server", "-net", "udp", "-addr", "127.0.0.1:0")
	roundTrip(t, "udp", addr)
	roundTrip(t, "udp", addr)
	stop()
}
