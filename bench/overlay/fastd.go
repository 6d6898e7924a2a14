package overlay

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"twill/internal/lab"
)

// fastd is fastd with its method null: it authenticates peers, not packets, and
// encrypts nothing, as twill and Flannel do.
type fastd struct{}

const (
	// fastdPort is the one of fastd's examples.
	fastdPort = 10000
	// fastdMTU leaves room for the outer IPv4 and UDP headers and fastd's type
	// byte: 20 + 8 + 1.
	fastdMTU = underlayMTU - 29
)

func (fastd) Name() string          { return "fastd" }
func (fastd) Kind() string          { return "userspace, method null" }
func (fastd) Find() (string, error) { return findProgram("fastd", "fastd", "--version") }

func (f fastd) Start(ctx context.Context, l *lab.Lab) (*Network, error) {
	var secret, public [2]string
	for i, h := range l.Hosts {
		var err error
		if secret[i], public[i], err = f.keys(h.Dir()); err != nil {
			return nil, err
		}
	}
	daemon := tunDaemon{kind: "fastd", mtu: fastdMTU}
	for i, h := range l.Hosts {
		bind := netip.AddrPortFrom(h.Addr(), fastdPort)
		remote := netip.AddrPortFrom(l.Hosts[1-i].Addr(), fastdPort)
		config := fmt.Sprintf(`mode tun;
interface %q;
mtu %d;
method "null";
bind %s;
secret %q;
peer "other" { key %q; remote %s; }
`, daemon.device(i), fastdMTU, bind, secret[i], public[1-i], remote)
		if err := os.WriteFile(f.config(h.Dir()), []byte(config), 0o600); err != nil {
			return nil, err
		}
	}
	daemon.command = func(i int, _ string) []string {
		return []string{"fastd", "--config", f.config(l.Hosts[i].Dir())}
	}
	return daemon.start(ctx, l)
}

func (fastd) config(dir string) string { return filepath.Join(dir, "fastd.conf") }

// keys lets fastd make a pair of keys; its curve is one of its own.
func (fastd) keys(dir string) (secret, public string, err error) {
	out, err := exec.Command("fastd", "--machine-readable", "--generate-key").Output()
	if err != nil {
		return "", "", fmt.Errorf("fastd --generate-key: %w", err)
	}
	secret = strings.TrimSpace(string(out))
	path := filepath.Join(dir, "fastd.secret")
	if err := os.WriteFile(path, fmt.Appendf(nil, "secret %q;\n", secret), 0o600); err != nil {
		return "", "", err
	}
	out, err = exec.Command("fastd", "--machine-readable", "--show-key", "--config", path).Output()
	if err != nil {
		return "", "", fmt.Errorf("fastd --show-key: %w", err)
	}
	return secret, strings.TrimSpace(string(out)), nil
}
