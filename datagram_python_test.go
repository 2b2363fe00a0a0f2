package strand_test

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// pythonEcho is asyncio's datagram echo. It prints its port, and ends with its
// standard input.
const pythonEcho = `
import asyncio, sys

class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, addr):
        self.transport.sendto(b"echo of " + data, addr)

async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=(sys.argv[1], 0))
    print(transport.get_extra_info("sockname")[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    transport.close()

asyncio.run(main())
`

// pythonClient sends datagrams to an echo and checks what comes back.
const pythonClient = `
import asyncio, sys

SIZES = [0, 1, 64, 1400, 9000, 60000]

class Client(asyncio.DatagramProtocol):
    def __init__(self):
        self.done = asyncio.get_running_loop().create_future()
        self.left = list(SIZES)
    def connection_made(self, transport):
        self.transport = transport
        self.send()
    def send(self):
        self.sent = bytes(i % 251 for i in range(self.left.pop(0)))
        self.transport.sendto(self.sent)
    def datagram_received(self, data, addr):
        assert data == self.sent, (len(data), len(self.sent))
        if self.left:
            self.send()
        else:
            self.done.set_result(None)
    def error_received(self, exc):
        self.done.set_exception(exc)

async def main():
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Client, remote_addr=(sys.argv[1], int(sys.argv[2])))
    await protocol.done
    transport.close()

# CPython before 3.13 drops empty datagrams instead of sending them.
if sys.version_info < (3, 13):
    SIZES.remove(0)
asyncio.run(main())
`

func needsPython(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3, whose asyncio is the peer here, is not installed")
	}
}

// asyncio answers a strand client.
func TestDatagramToPython(t *testing.T) {
	needsPython(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "python3", "-c", pythonEcho, host)
			var stderr logBuffer
			cmd.Stderr = &stderr
			stdin, err := cmd.StdinPipe()
			require.NoError(t, err)
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			port, err := bufio.NewReader(stdout).ReadString('\n')
			require.NoError(t, err, stderr.String())

			r := newDatagramRecorder()
			tr := createDatagram(t, "udp", "", net.JoinHostPort(host, strings.TrimSpace(port)), r, nil)
			for i, data := range []string{"", "x", strings.Repeat("y", 60_000)} {
				require.NoError(t, tr.SendTo([]byte(data), nil))
				packets, senders := r.awaitPackets(t, i+1)
				require.True(t, packets[i] == "echo of "+data, "%d bytes", len(packets[i]))
				require.Equal(t, tr.RemoteAddr().String(), senders[i].String())
			}
			require.NoError(t, stdin.Close())
			require.NoError(t, cmd.Wait(), stderr.String())
		})
	}
}

// strand answers an asyncio client.
func TestDatagramFromPython(t *testing.T) {
	needsPython(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			r := newDatagramRecorder()
			r.onDatagram = func(data []byte, from net.Addr) { r.tr.SendTo(data, from) }
			tr := createDatagram(t, "udp", net.JoinHostPort(host, "0"), "", r, nil)
			port := fmt.Sprint(tr.LocalAddr().(*net.UDPAddr).Port)
			out, err := exec.CommandContext(t.Context(), "python3", "-c", pythonClient, host, port).CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}

var _ strand.DatagramProtocol = (*datagramRecorder)(nil)
