//go:build linux

package runner

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gostrand/strand/benchmarks/internal/proc"
	"github.com/gostrand/strand/benchmarks/internal/serve"
)

// Pin chooses the processors: the first that this process may use for the
// client, which also gets the interrupts there, and the second for the server.
func (r *Runner) Pin(pinned bool) error {
	if r.Pinned = pinned; !pinned {
		return nil
	}
	allowed, err := proc.ThreadAffinity()
	if err != nil {
		return err
	}
	cpus := allowed.List()
	if len(cpus) < 2 {
		return fmt.Errorf("pinning needs two processors, this process may use %d", len(cpus))
	}
	r.ClientCPUs, err = proc.OneCPU(cpus[0])
	if err != nil {
		return err
	}
	r.ServerCPUs, err = proc.OneCPU(cpus[1])
	return err
}

// MakeCertificate writes a self-signed one for servers that read files.
func (r *Runner) MakeCertificate() error {
	cert := serve.TLSConfig().Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	r.Cert, r.Key = filepath.Join(r.Dir, "cert.pem"), filepath.Join(r.Dir, "key.pem")
	return errors.Join(
		writePEM(r.Cert, "CERTIFICATE", cert.Certificate[0]),
		writePEM(r.Key, "PRIVATE KEY", key),
	)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
