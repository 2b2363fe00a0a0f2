//go:build !unix

package conformance

import (
	"errors"
	"os"
	"syscall"
)

const sigUSR1 = syscall.SIGTERM

func getsockopt(uintptr, int, int) int { return 0 }

func setsockopt(uintptr, int, int, int) error { return errors.ErrUnsupported }

func openFIFO(string) (read, write *os.File, err error) { return nil, nil, errors.ErrUnsupported }

func socketPair() (a, b *os.File, err error) { return nil, nil, errors.ErrUnsupported }
