//go:build !unix

package strand

import (
	"errors"
	"os"
	"syscall"
)

func sysProcAttr(given *syscall.SysProcAttr, group bool) (*syscall.SysProcAttr, error) {
	if group {
		return nil, errors.ErrUnsupported
	}
	return given, nil
}

func signalGroup(*os.Process, os.Signal) error { return errors.ErrUnsupported }

func blockUntilExit(int) bool { return false }

func returnCode(state *os.ProcessState) int {
	if state == nil {
		return unknownCode
	}
	return state.ExitCode()
}
