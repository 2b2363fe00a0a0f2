package streams_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand/streams"
)

// A thousand streams at the same time, each with a message of another size,
// which comes back byte for byte.
func TestManyConnections(t *testing.T) {
	connections := 1000
	if runtime.GOOS != "linux" {
		connections = 100 // what other systems allow in descriptors is less
	}
	_, address := start(t, func(r *streams.Reader, w *streams.Writer) {
		if _, err := io.Copy(w, r); err != nil {
			t.Errorf("the server: %v", err)
		}
	}, nil)
	errs := make([]error, connections)
	var open, done sync.WaitGroup
	open.Add(connections)
	for i := range connections {
		done.Go(func() { errs[i] = exchange(address, i, &open) })
	}
	done.Wait()
	require.NoError(t, errors.Join(errs...))
}

// exchange opens a stream, waits until all the others are open, too, sends a
// message in pieces and wants it back.
func exchange(address string, i int, open *sync.WaitGroup) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	r, w, err := streams.OpenConnection(ctx, "tcp", address, nil)
	open.Done()
	if err != nil {
		return err
	}
	open.Wait()
	source := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)})
	rnd := rand.New(source)
	message := make([]byte, rnd.IntN(1<<(8+i%10)))
	source.Read(message)
	sent := asyncErr(func() error { return sendInPieces(ctx, w, rnd, message) })
	got, err := r.ReadAll(ctx)
	if err = errors.Join(err, (<-sent).err, w.Close(), w.WaitClosed(ctx)); err != nil {
		return fmt.Errorf("stream %d: %w", i, err)
	}
	if !bytes.Equal(message, got) {
		return fmt.Errorf("stream %d: %d bytes came back of %d, or others", i, len(got), len(message))
	}
	return nil
}

func sendInPieces(ctx context.Context, w *streams.Writer, rnd *rand.Rand, message []byte) error {
	for len(message) > 0 {
		n := min(len(message), 1+rnd.IntN(20_000))
		if _, err := w.Write(message[:n]); err != nil {
			return err
		}
		if err := w.Drain(ctx); err != nil {
			return err
		}
		message = message[n:]
	}
	return w.WriteEOF()
}
