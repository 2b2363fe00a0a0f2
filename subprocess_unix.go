//go:build unix

package strand

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// sysProcAttr adds what strand needs to the caller's attributes.
func sysProcAttr(given *syscall.SysProcAttr, group bool) (*syscall.SysProcAttr, error) {
	if !group {
		return given, nil
	}
	var attr syscall.SysProcAttr
	if given != nil {
		attr = *given
	}
	if attr.Pgid != 0 {
		return nil, badOption("a child in group %d leads no ProcessGroup", attr.Pgid)
	}
	attr.Setpgid = !attr.Setsid // the leader of a session leads a group
	return &attr, nil
}

// signalGroup signals the process group that p leads. The caller makes sure
// that p was not waited for, so that its number is still its own.
func signalGroup(p *os.Process, sig os.Signal) error {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("strand: unsupported signal %v", sig)
	}
	err := syscall.Kill(-p.Pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// returnCode is the exit status, or minus the number of the signal.
func returnCode(state *os.ProcessState) int {
	if state == nil {
		return unknownCode
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return -int(status.Signal())
	}
	return state.ExitCode()
}
