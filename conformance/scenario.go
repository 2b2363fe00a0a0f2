package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Scenario is one file: what a connection's protocol does in its callbacks,
// what the peer does, and what the application does meanwhile. README.md
// describes every field.
type Scenario struct {
	Name string `json:"-"` // the path below the directory, without suffix
	Path string `json:"-"`

	About       string              `json:"about"`
	IDs         []string            `json:"ids"`
	Since       string              `json:"since"`
	Kind        string              `json:"kind"`
	Role        string              `json:"role"`
	Options     Options             `json:"options"`
	TLS         *TLSSettings        `json:"tls"`
	PeerTLS     TLSSettings         `json:"peer_tls"`
	Command     []string            `json:"command"`
	Shell       string              `json:"shell"`
	Stdio       map[string]string   `json:"stdio"`
	LooseErrors bool                `json:"loose_errors"`
	Log         string              `json:"log"`
	Protocol    *ProtocolSpec       `json:"protocol"`
	Protocols   []ProtocolSpec      `json:"protocols"`
	Blocks      map[string][]string `json:"blocks"`
	Peer        []string            `json:"peer"`
	Peers       [][]string          `json:"peers"`
	App         []string            `json:"app"`
	Leave       string              `json:"leave"`
	Differs     []Difference        `json:"differs"`
}

// Options are the settings of the stage.
type Options struct {
	Buffers    string `json:"buffers"`
	Refuse     bool   `json:"refuse"`
	Factory    string `json:"factory"`
	Connected  bool   `json:"connected"`
	RemoteOnly bool   `json:"remote_only"`
	Broadcast  bool   `json:"broadcast"`
	Via        string `json:"via"`
	DelayStart bool   `json:"delay_start"`
	RcvBuf     int    `json:"rcvbuf"`
}

// TLSSettings describe one side of a TLS connection.
type TLSSettings struct {
	Start            bool     `json:"start"`
	Cert             string   `json:"cert"`
	Verify           *bool    `json:"verify"`
	RequireCert      bool     `json:"require_cert"`
	Hostname         string   `json:"hostname"`
	Min              string   `json:"min"`
	Max              string   `json:"max"`
	ALPN             []string `json:"alpn"`
	HandshakeTimeout float64  `json:"handshake_timeout"`
	ShutdownTimeout  float64  `json:"shutdown_timeout"`
}

// ProtocolSpec describes one protocol object.
type ProtocolSpec struct {
	Kind    string              `json:"kind"`
	Buffer  *int                `json:"buffer"`
	Returns string              `json:"returns"` // of get_buffer; Python only
	Echo    bool                `json:"echo"`
	On      map[string][]string `json:"on"`
}

// A Difference names trace lines in which strand differs on purpose. In the
// section Actor the lines Asyncio, which must stand there exactly once, are
// replaced by Strand; Row is the row of SPEC.md that gives the reason.
type Difference struct {
	Row     string   `json:"row"`
	Actor   string   `json:"actor"`
	Asyncio []string `json:"asyncio"`
	Strand  []string `json:"strand"`
}

// Discover returns the scenarios of a file or of a directory, in name order.
func Discover(where string) ([]*Scenario, error) {
	info, err := os.Stat(where)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		s, err := load(where, filepath.Dir(where))
		return []*Scenario{s}, err
	}
	var found []*Scenario
	err = filepath.WalkDir(where, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".json" {
			return err
		}
		s, err := load(path, where)
		found = append(found, s)
		return err
	})
	return found, err
}

func load(path, root string) (*Scenario, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	s := &Scenario{Path: path, Name: strings.TrimSuffix(filepath.ToSlash(rel), ".json")}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, s.complete()
}

// complete checks the scenario and fills in what may be left out.
func (s *Scenario) complete() error {
	if s.Role == "" {
		s.Role = "client"
	}
	if s.Protocols == nil {
		s.Protocols = []ProtocolSpec{{}}
		if s.Protocol != nil {
			s.Protocols[0] = *s.Protocol
		}
	}
	if s.Peers == nil {
		s.Peers = [][]string{s.Peer}
	}
	kinds := []string{"tcp", "unix", "udp", "unixgram", "read_pipe", "write_pipe", "subprocess"}
	switch {
	case !slices.Contains(kinds, s.Kind):
		return fmt.Errorf("%s: kind must be one of %v", s.Path, kinds)
	case !slices.Contains([]string{"client", "server", "attach", "accepted"}, s.Role):
		return fmt.Errorf("%s: unknown role %q", s.Path, s.Role)
	case len(s.IDs) == 0:
		return fmt.Errorf("%s: ids must name what the scenario shows", s.Path)
	}
	return s.checkActions()
}

// serverSide reports whether the transport is the TLS server.
func (s *Scenario) serverSide() bool { return s.Role == "server" || s.Role == "accepted" }

// TracePath is where the golden trace stands.
func (s *Scenario) TracePath() string { return strings.TrimSuffix(s.Path, ".json") + ".trace" }
