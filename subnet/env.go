package subnet

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
)

// Env is subnet.env: what a host's container runtime has to know about the overlay. The file
// outlives the daemon, so it also remembers the host's subnet when etcd lost everything.
type Env struct {
	Network netip.Prefix // the whole overlay, masked
	Subnet  netip.Prefix // the bridge's address with the subnet's length, 10.5.72.1/24; see SubnetEnv
	MTU     int          // bytes of one inner packet
	IPMasq  bool         // the daemon masquerades, so the runtime must not
}

// The keys of the file, in its order. Flannel's CNI plugin wants all four.
const (
	envNetwork = "FLANNEL_NETWORK"
	envSubnet  = "FLANNEL_SUBNET"
	envMTU     = "FLANNEL_MTU"
	envIPMasq  = "FLANNEL_IPMASQ"
)

var envKeys = []string{envNetwork, envSubnet, envMTU, envIPMasq}

const (
	minMTU = 68    // bytes; every IPv4 link carries that much, RFC 791 3.2
	maxMTU = 65535 // bytes; the longest IPv4 packet, RFC 791 3.1
)

// SubnetEnv is the first address of a subnet with the subnet's length: 10.5.72.0/24 gives
// 10.5.72.1/24. It is the form of FLANNEL_SUBNET and the address of the host's bridge.
func SubnetEnv(subnet netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(subnet.Masked().Addr().Next(), subnet.Bits())
}

// Bytes is the file, byte for byte as Flannel writes it.
func (e Env) Bytes() []byte {
	return fmt.Appendf(nil, "%s=%s\n%s=%s\n%s=%d\n%s=%t\n",
		envNetwork, e.Network, envSubnet, e.Subnet, envMTU, e.MTU, envIPMasq, e.IPMasq)
}

// ParseEnv reads a file that Env.Bytes or Flannel wrote: KEY=VALUE a line, without quotes. Empty
// lines, comments and keys that twill does not know are skipped. The error names the line.
func ParseEnv(raw []byte) (Env, error) {
	var e Env
	seen := map[string]bool{}
	number := 0
	for line := range strings.Lines(string(raw)) {
		number++
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return Env{}, fmt.Errorf("line %d: %.64q: want KEY=VALUE", number, line)
		}
		if !slices.Contains(envKeys, key) {
			continue
		}
		if seen[key] {
			return Env{}, fmt.Errorf("line %d: %s is given twice", number, key)
		}
		seen[key] = true
		if err := e.set(key, value); err != nil {
			return Env{}, fmt.Errorf("line %d: %s %.64q: %w", number, key, value, err)
		}
	}
	for _, key := range envKeys {
		if !seen[key] {
			return Env{}, fmt.Errorf("%s is missing", key)
		}
	}
	if !e.Network.Contains(e.Subnet.Addr()) || e.Subnet.Bits() <= e.Network.Bits() {
		return Env{}, fmt.Errorf("%s %s: want a subnet of %s %s", envSubnet, e.Subnet, envNetwork, e.Network)
	}
	return e, nil
}

func (e *Env) set(key, value string) (err error) {
	switch key {
	case envNetwork:
		e.Network, err = parseEnvNetwork(value)
	case envSubnet:
		e.Subnet, err = parseEnvSubnet(value)
	case envMTU:
		e.MTU, err = parseEnvMTU(value)
	case envIPMasq:
		e.IPMasq, err = parseEnvBool(value)
	}
	return err
}

func parseEnvNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p != p.Masked() {
		return netip.Prefix{}, errors.New("want an IPv4 prefix like 10.5.0.0/16")
	}
	return p, nil
}

func parseEnvSubnet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !inFamily(p, ipv4Family) || p != SubnetEnv(p) {
		return netip.Prefix{}, errors.New("want the first address of a subnet like 10.5.72.1/24")
	}
	return p, nil
}

func parseEnvMTU(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n < minMTU || n > maxMTU {
		return 0, fmt.Errorf("want %d to %d", minMTU, maxMTU)
	}
	return int(n), nil
}

func parseEnvBool(s string) (bool, error) {
	if s != "true" && s != "false" {
		return false, errors.New("want true or false")
	}
	return s == "true", nil
}

// ReadEnv reads the file at path. A missing file is an error that wraps fs.ErrNotExist.
func ReadEnv(path string) (Env, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Env{}, fmt.Errorf("read subnet file: %w", err)
	}
	e, err := ParseEnv(raw)
	if err != nil {
		return Env{}, fmt.Errorf("subnet file %s: %w", path, err)
	}
	return e, nil
}

// WriteEnv puts e at path with mode 0644 and makes the directory, with mode 0755, where there
// is none. A reader sees the old file or the new one, never a part.
func WriteEnv(path string, e Env) error {
	if err := writeEnv(path, e.Bytes()); err != nil {
		return fmt.Errorf("write subnet file: %w", err)
	}
	return nil
}

// ProbeEnv returns the error that WriteEnv would, and leaves the file at path as it is.
func ProbeEnv(path string) error {
	f, err := pendingEnv(path)
	if err == nil {
		err = f.Cleanup()
	}
	if err != nil {
		return fmt.Errorf("write subnet file: %w", err)
	}
	return nil
}

func writeEnv(path string, data []byte) error {
	f, err := pendingEnv(path)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

func pendingEnv(path string) (*renameio.PendingFile, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// A rename would turn a device or a pipe, /dev/null for one, into a file.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "replace", Path: path, Err: errors.New("not a regular file")}
	}
	return renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o644))
}
