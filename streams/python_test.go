package streams_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand/internal/testkit"
	"github.com/gostrand/strand/streams"
)

// The protocol of these tests: lines until an empty one, each of which comes
// back in upper case; then a length of four bytes and as many bytes, which come
// back in reverse; then the end of the stream, and "bye".

const pythonServer = `
import asyncio, sys
async def handle(reader, writer):
    while (line := await reader.readline()) != b'\n':
        writer.write(line.upper())
        await writer.drain()
    n = int.from_bytes(await reader.readexactly(4), 'big')
    writer.write((await reader.readexactly(n))[::-1])
    await writer.drain()
    assert await reader.read() == b''
    writer.write(b'bye')
    writer.close()
    await writer.wait_closed()
async def main():
    server = await asyncio.start_server(handle, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
`

const pythonClient = `
import asyncio, sys
async def main():
    reader, writer = await asyncio.open_connection('127.0.0.1', int(sys.argv[1]))
    for line in b'hello\n', b'a' * 50000 + b'\n':
        writer.write(line)
        await writer.drain()
        assert await reader.readline() == line.upper()
    data = bytes(range(256)) * 4000
    writer.writelines([b'\n', len(data).to_bytes(4, 'big'), data])
    await writer.drain()
    assert await reader.readexactly(len(data)) == data[::-1]
    writer.write_eof()
    assert await reader.read() == b'bye'
    assert reader.at_eof()
    writer.close()
    await writer.wait_closed()
    print('good')
asyncio.run(main())
`

func python(t *testing.T, args ...string) *exec.Cmd {
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 to talk to")
	}
	return exec.CommandContext(within(t), path, args...)
}

func TestPythonServer(t *testing.T) {
	cmd := python(t, "-c", pythonServer)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr testkit.LogBuffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	port, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err, stderr.String())

	r, w := dial(t, "tcp", "127.0.0.1:"+strings.TrimSpace(port), nil)
	ctx := within(t)
	for _, line := range []string{"hello\n", strings.Repeat("a", 50_000) + "\n"} {
		io.WriteString(w, line)
		require.NoError(t, w.Drain(ctx))
		wantData(t, strings.ToUpper(line))(r.ReadLine(ctx))
	}
	data := pattern(1_000_000)
	w.WriteLines([]byte("\n"), binary.BigEndian.AppendUint32(nil, uint32(len(data))), data)
	require.NoError(t, w.Drain(ctx))
	got, err := r.ReadExactly(ctx, len(data))
	require.NoError(t, err)
	require.True(t, bytes.Equal(reversed(data), got))
	require.NoError(t, w.WriteEOF())
	wantData(t, "bye")(r.ReadAll(ctx))
	w.Close()
	require.NoError(t, w.WaitClosed(ctx))
}

func TestPythonClient(t *testing.T) {
	_, address := start(t, func(r *streams.Reader, w *streams.Writer) {
		if err := answer(context.Background(), r, w); err != nil {
			t.Errorf("the handler: %v", err)
		}
	}, nil)
	port := address[strings.LastIndex(address, ":")+1:]
	_, err := strconv.Atoi(port)
	require.NoError(t, err)
	out, err := python(t, "-c", pythonClient, port).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "good\n", string(out))
}

func answer(ctx context.Context, r *streams.Reader, w *streams.Writer) error {
	for line, err := range r.Lines(ctx) {
		if err != nil {
			return err
		}
		if len(line) == 1 {
			break
		}
		w.Write(bytes.ToUpper(line))
	}
	head, err := r.ReadExactly(ctx, 4)
	if err != nil {
		return err
	}
	data, err := r.ReadExactly(ctx, int(binary.BigEndian.Uint32(head)))
	if err != nil {
		return err
	}
	w.Write(reversed(data))
	if err := w.Drain(ctx); err != nil {
		return err
	}
	if _, err := r.ReadAll(ctx); err != nil {
		return err
	}
	_, err = w.Write([]byte("bye"))
	return err
}

func reversed(p []byte) []byte {
	q := make([]byte, len(p))
	for i, b := range p {
		q[len(p)-1-i] = b
	}
	return q
}
