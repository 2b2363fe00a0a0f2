//go:build unix && !linux

package sockio

const pollRDHUP = 0
