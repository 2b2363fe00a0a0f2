//go:build !linux

package conformance

import (
	"errors"
	"os"
)

func setPipeSize(*os.File, int) error { return errors.ErrUnsupported }

func openTerminal() (master, slave *os.File, err error) { return nil, nil, errors.ErrUnsupported }
