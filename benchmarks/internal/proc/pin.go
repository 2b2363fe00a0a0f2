//go:build linux

package proc

import (
	"fmt"
	"math/bits"
	"syscall"
	"unsafe"
)

// A CPUSet is a set of processors, as sched_setaffinity takes it.
type CPUSet [16]uint64

// OneCPU returns the set that holds only cpu.
func OneCPU(cpu int) (CPUSet, error) {
	var s CPUSet
	if cpu < 0 || cpu >= len(s)*64 {
		return s, fmt.Errorf("processor %d is out of range", cpu)
	}
	s[cpu/64] = 1 << (cpu % 64)
	return s, nil
}

// List returns the members, in ascending order.
func (s CPUSet) List() []int {
	var cpus []int
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			cpus = append(cpus, i*64+bits.TrailingZeros64(word))
		}
	}
	return cpus
}

// ThreadAffinity returns the set of the calling thread.
func ThreadAffinity() (CPUSet, error) {
	var s CPUSet
	return s, affinity(syscall.SYS_SCHED_GETAFFINITY, &s)
}

// SetThreadAffinity moves the calling thread, which the caller has locked. A
// child started from it inherits the set, before its runtime counts CPUs.
func SetThreadAffinity(s CPUSet) error {
	return affinity(syscall.SYS_SCHED_SETAFFINITY, &s)
}

func affinity(call uintptr, s *CPUSet) error {
	_, _, errno := syscall.RawSyscall(call, 0, unsafe.Sizeof(*s), uintptr(unsafe.Pointer(s)))
	if errno != 0 {
		return fmt.Errorf("CPU affinity: %w", errno)
	}
	return nil
}
