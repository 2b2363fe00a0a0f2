// Relay passes its standard input on to the socket that is descriptor 3, and
// what comes from there to its standard output: the child process of
// TestSubprocessStdio. It is a program of its own, and small, because it is
// started for every case of the suite: as the test binary itself, with the race
// detector, that took longer than the cases.
package main

import (
	"io"
	"os"
	"sync"
	"syscall"
)

func main() {
	socket := os.NewFile(3, "socket")
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := relay(socket, os.Stdin); err != nil {
			os.Exit(0) // the reader is gone: so are we
		}
		syscall.Shutdown(3, syscall.SHUT_WR)
	})
	relay(os.Stdout, socket)
	os.Stdout.Close()
	wg.Wait()
}

// relay copies until the end of the input, or until one of the two fails, and
// returns what w said. Its buffer is small: what it holds is room between the
// two ends that the cases have to fill.
func relay(w io.Writer, r io.Reader) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		if _, failed := w.Write(buf[:n]); failed != nil {
			return failed
		}
		if err != nil {
			return nil
		}
	}
}
