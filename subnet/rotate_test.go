package subnet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// The password is changed in etcd, which forgets its tokens, and later in the
// file: the node forwards on, says why, and is back without a restart.
func TestPasswordFileIsReadAgain(t *testing.T) {
	t.Parallel()
	n, c := secured(t)
	path := filepath.Join(t.TempDir(), "password")
	writeSecret(t, path, "secret-twill\n")
	c.Password, c.PasswordFile = "", path
	h := n.dialAt(c, host(1)).start()

	root := c
	root.Username, root.Password, root.PasswordFile = "root", "secret-root", ""
	_, err := clientOf(t, n.dialAt(root, host(9)).registry).UserChangePassword(n.rpc(), "twill", "rotated-twill")
	n.must(err)
	n.store.restart(t, false)
	h.waitFor("the login to fail", func(v View) bool { return strings.Contains(v.Etcd.Err, "authentication failed") })
	writeSecret(t, path, "") // half a rotation
	h.logged("cannot be used", 1)
	writeSecret(t, path, "rotated-twill\n")
	h.waitFor("etcd back", etcdThere)
	h.logged("connected with the new ones", 1)
	if log := h.log.String(); strings.Contains(log, "secret-twill") || strings.Contains(log, "rotated-twill") {
		t.Errorf("a password is in the log:\n%s", log)
	}
}

func writeSecret(t *testing.T, path, text string) {
	t.Helper()
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, path); err != nil {
		t.Fatal(err)
	}
}

// An authority signs etcd's certificate and the clients'.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	template := certificate(name)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	a.cert = template
	a.cert = a.sign(template, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func (a *authority) sign(c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return signed
}

// issue writes ca.pem, cert.pem and key.pem to dir, each by a rename.
func (a *authority) issue(dir, name string) transport.TLSInfo {
	a.t.Helper()
	key := newKey(a.t)
	cert := a.sign(certificate(name), key)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert.Raw},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: der},
	} {
		writeSecret(a.t, filepath.Join(dir, file), string(pem.EncodeToMemory(block)))
	}
	return transport.TLSInfo{
		TrustedCAFile: filepath.Join(dir, "ca.pem"),
		CertFile:      filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
		ClientCertAuth: true,
	}
}

// overTLS starts an etcd that talks to clients with certificates of info's CA.
func overTLS(info transport.TLSInfo) launcher {
	return func(ctx context.Context, dir string, listen netip.AddrPort) (server, error) {
		return launchEtcd(ctx, dir, url.URL{Scheme: "https", Host: listen.String()}, func(c *embed.Config) { c.ClientTLSInfo = info })
	}
}

// CA, client certificate and key are all replaced, etcd's first: one by one, as
// a rotation without care would do it.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	first, second := newAuthority(t, "first CA"), newAuthority(t, "second CA")
	s := &store{dir: t.TempDir(), launch: overTLS(first.issue(t.TempDir(), "etcd"))}
	s.mustStart(t)
	t.Cleanup(func() { s.stop() })
	dir := t.TempDir()
	files := first.issue(dir, "twill")
	prefix := "/x"
	c := EtcdConfig{Endpoints: []string{s.server.Endpoint()}, Prefix: prefix, CAFile: files.TrustedCAFile, CertFile: files.CertFile, KeyFile: files.KeyFile}
	n := &network{t: t, store: s, prefix: prefix}
	admin := n.dialAt(c, host(9))
	n.client = clientOf(t, admin.registry)
	n.putConfig(wideConfig)
	h := n.dialAt(c, host(1)).start()

	s.stop()
	s.launch = overTLS(second.issue(t.TempDir(), "etcd"))
	s.mustStart(t)
	h.waitFor("the handshake to fail", func(v View) bool { return strings.Contains(v.Etcd.Err, "unknown authority") })
	second.issue(dir, "twill")
	h.waitFor("etcd back", etcdThere)
	n.client = clientOf(t, admin.registry)
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285")
}
