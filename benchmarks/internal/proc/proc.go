//go:build linux

// Package proc reads what the kernel knows about processes and processors.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// CPUTime returns the user and system time of all threads of a process, those
// that have ended included. It reads the process's CPU clock, which counts
// nanoseconds and brings running threads up to date, where /proc/PID/stat
// counts ticks of 10 ms and schedstat forgets ended threads.
func CPUTime(pid int) (time.Duration, error) {
	// clock_getcpuclockid(3): the complement of the pid shifted by three, and
	// 2 for "scheduler time of the process".
	clock := ^uintptr(pid)<<3 | 2
	var ts syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(int32(clock)), uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, errno)
	}
	return time.Duration(ts.Nano()), nil
}

// RSS returns the resident bytes of a process.
func RSS(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm of process %d: %q", pid, b)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// A Machine is the time that all processors together have spent since boot.
type Machine struct {
	Busy  time.Duration // running anything, interrupts included
	Steal time.Duration // wanted by this machine, given by the hypervisor to another
}

// ReadMachine reads /proc/stat, which counts in ticks of 10 ms.
func ReadMachine() (Machine, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return parseMachine(string(line))
}

func parseMachine(line string) (Machine, error) {
	var user, nice, system, idle, iowait, irq, softirq, steal int64
	_, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal)
	if err != nil {
		return Machine{}, fmt.Errorf("/proc/stat: %w", err)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux port of Go
	return Machine{
		Busy:  time.Duration(user+nice+system+irq+softirq) * tick,
		Steal: time.Duration(steal) * tick,
	}, nil
}

// Sub returns what was spent between the earlier reading and this one.
func (m Machine) Sub(earlier Machine) Machine {
	return Machine{Busy: m.Busy - earlier.Busy, Steal: m.Steal - earlier.Steal}
}
