//go:build linux && !amd64

package loadgen

// The number that all architectures added since Linux 3.0 share.
const sysSendmmsg = 269
