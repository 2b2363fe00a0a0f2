package strand_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// childRecorder notes the callbacks of a SubprocessProtocol.
type childRecorder struct {
	strand.NopSubprocessProtocol
	t     strand.SubprocessTransport
	calls []string
	out   []byte
}

func (c *childRecorder) ConnectionMade(t strand.SubprocessTransport) {
	c.t = t
	c.calls = append(c.calls, "ConnectionMade")
}
func (c *childRecorder) PipeDataReceived(fd int, data []byte) { c.out = append(c.out, data...) }
func (c *childRecorder) PipeConnectionLost(fd int, err error) {
	c.calls = append(c.calls, "PipeConnectionLost "+string(rune('0'+fd))+" "+errName(err))
}
func (c *childRecorder) ProcessExited()           { c.calls = append(c.calls, "ProcessExited") }
func (c *childRecorder) ConnectionLost(err error) { c.calls = append(c.calls, "ConnectionLost "+errName(err)) }

func TestSubprocessCat(t *testing.T) {
	tr, c, err := strand.SubprocessExec(context.Background(), []string{"cat"}, func() *childRecorder { return new(childRecorder) }, nil)
	require.NoError(t, err)
	tr.PipeTransport(0).Write([]byte("hello"))
	tr.PipeTransport(0).WriteEOF()
	await(t, "the end", tr.Done())
	require.Equal(t, "hello", string(c.out))
	require.Equal(t, "ConnectionMade", c.calls[0])
	require.Equal(t, "ConnectionLost nil", c.calls[len(c.calls)-1])
	require.Len(t, c.calls, 6)
	code, exited := tr.ReturnCode()
	require.True(t, exited)
	require.Zero(t, code)
}

func TestSubprocessClose(t *testing.T) {
	tr, c, err := strand.SubprocessExec(context.Background(), []string{"sleep", "100"}, func() *childRecorder { return new(childRecorder) }, nil)
	require.NoError(t, err)
	tr.Close()
	await(t, "the end", tr.Done())
	code, _ := tr.ReturnCode()
	require.Equal(t, -9, code)
	require.Equal(t, "ConnectionLost nil", c.calls[len(c.calls)-1])
}
