package subnet

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// Identity is what this host writes into its lease, and what it recognises
// its lease by.
type Identity struct {
	NodeID   string     // stable across restarts and address changes
	Node     string     // host name, for people
	PublicIP netip.Addr // where peers send to
	Port     uint16     // UDP, as peers see it
	// SharedIP: other hosts have the same PublicIP, behind one NAT, and Port
	// tells us apart.
	SharedIP bool
}

// Owns reports whether a lease with value v is this host's: it carries our
// NodeID, or it is one without any (Flannel's, or a reservation by address)
// for our PublicIP. A port tells hosts behind one PublicIP apart; there a lease
// without a port is nobody's.
func (id Identity) Owns(v Value) bool {
	if v.NodeID != "" {
		return v.NodeID == id.NodeID
	}
	return v.PublicIP == id.PublicIP && (v.Port == id.Port || v.Port == 0 && !id.SharedIP)
}

func (id Identity) value() Value {
	return Value{
		PublicIP:    id.PublicIP,
		BackendType: BackendUDP,
		Proto:       ProtoVersion,
		Node:        id.Node,
		NodeID:      id.NodeID,
		Port:        id.Port,
	}
}

// ProtoVersion is the control datagram protocol that this twill speaks,
// announced in BackendData.
const ProtoVersion = 1

// nodeIDFile lies in the state directory and holds nodeIDBytes random bytes
// in hex.
const (
	nodeIDFile  = "node-id"
	nodeIDBytes = 16
)

// NodeIDPath is where LoadNodeID keeps the id in a state directory.
func NodeIDPath(dir string) string { return filepath.Join(dir, nodeIDFile) }

// LoadNodeID reads the node's id from dir, or makes one and keeps it there.
func LoadNodeID(dir string) (string, error) {
	id, err := ReadNodeID(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if id, err = createNodeID(dir); err != nil {
		return "", fmt.Errorf("node id: none is kept in %s yet, and without one this host would get another subnet at every start; it has to be writable: %w", dir, err)
	}
	return id, nil
}

// ReadNodeID reads the node's id from dir; fs.ErrNotExist where there is none
// yet. A file that holds something else is an error: to guess another identity
// would cost the node its subnet.
func ReadNodeID(dir string) (string, error) {
	path := NodeIDPath(dir)
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("node id: %w", err)
	}
	id := strings.TrimSpace(string(raw))
	if b, err := hex.DecodeString(id); err != nil || len(b) != nodeIDBytes {
		return "", fmt.Errorf("node id: %s holds %.40q, want %d hex digits; remove the file to get a new identity", path, id, 2*nodeIDBytes)
	}
	return id, nil
}

func createNodeID(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	b := make([]byte, nodeIDBytes)
	rand.Read(b) // never fails (crypto/rand)
	id := hex.EncodeToString(b)
	if err := renameio.WriteFile(NodeIDPath(dir), []byte(id+"\n"), 0o644); err != nil {
		return "", err
	}
	return id, nil
}
