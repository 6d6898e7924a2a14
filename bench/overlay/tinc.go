package overlay

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"twill/internal/lab"
)

// tinc is tinc 1.0 in router mode with its default cipher and digest.
type tinc struct{}

const (
	// tincMTU leaves room for the outer IPv4 and UDP headers, tinc's sequence
	// number, digest and padding, and the Ethernet header it keeps.
	tincMTU = underlayMTU - 100
	// tincKeyBits is tinc's own default length of an RSA key.
	tincKeyBits = 2048
)

func (tinc) Name() string          { return "tinc" }
func (tinc) Kind() string          { return "userspace, encrypts" }
func (tinc) Find() (string, error) { return findProgram("tincd", "tinc", "--version") }

func (t tinc) Start(ctx context.Context, l *lab.Lab) (*Network, error) {
	var about [2]string // what the hosts know of each
	for i, h := range l.Hosts {
		public, err := t.writeKey(h.Dir())
		if err != nil {
			return nil, fmt.Errorf("tinc key of %s: %w", h.Name, err)
		}
		about[i] = fmt.Sprintf("Address = %s\nSubnet = %s\n%s", h.Addr(), subnet(i), public)
	}
	for i, h := range l.Hosts {
		if err := t.writeConfig(h.Dir(), i, about); err != nil {
			return nil, fmt.Errorf("tinc config of %s: %w", h.Name, err)
		}
	}
	return tunDaemon{
		kind: "tinc",
		mtu:  tincMTU,
		command: func(i int, device string) []string {
			dir := l.Hosts[i].Dir()
			return []string{"tincd", "--no-detach", "--debug=1",
				"--config=" + t.dir(dir), "--pidfile=" + filepath.Join(dir, "tinc.pid"),
				"--option=Interface=" + device}
		},
	}.start(ctx, l)
}

func (tinc) dir(host string) string { return filepath.Join(host, "tinc") }

// writeKey makes a host's private key and returns the public one.
func (t tinc) writeKey(host string) (public []byte, err error) {
	key, err := rsa.GenerateKey(rand.Reader, tincKeyBits)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(t.dir(host), "hosts"), 0o700); err != nil {
		return nil, err
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	public = pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)})
	return public, os.WriteFile(filepath.Join(t.dir(host), "rsa_key.priv"), private, 0o600)
}

// writeConfig writes host i's config and what it knows of the hosts.
func (t tinc) writeConfig(host string, i int, about [2]string) error {
	name := func(i int) string { return fmt.Sprintf("host%d", i+1) }
	for j, text := range about {
		if err := os.WriteFile(filepath.Join(t.dir(host), "hosts", name(j)), []byte(text), 0o600); err != nil {
			return err
		}
	}
	config := fmt.Sprintf("Name = %s\nConnectTo = %s\nMode = router\n", name(i), name(1-i))
	return os.WriteFile(filepath.Join(t.dir(host), "tinc.conf"), []byte(config), 0o600)
}
