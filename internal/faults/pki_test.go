package faults

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// pki is a certificate authority and the files that it writes: ca.crt, and
// NAME.crt with NAME.key of each certificate.
type pki struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// The certificates' names.
const (
	etcdCert     = "etcd"     // of the members' client listeners
	daemonCert   = "twill"    // of every daemon
	operatorCert = "operator" // of the suite itself
)

// The lives of certificates.
const (
	valid   = time.Hour
	expired = -time.Minute
)

func newPKI(dir string) (*pki, error) {
	p := &pki{dir: dir}
	return p, p.renewCA()
}

func (p *pki) file(name string) string { return filepath.Join(p.dir, name) }
func (p *pki) caFile() string          { return p.file("ca.crt") }

// renewCA makes a new authority: what the former one signed is not trusted by who
// reads ca.crt from now on.
func (p *pki) renewCA() (err error) {
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	p.cert = certificate("authority", valid)
	p.cert.IsCA, p.cert.BasicConstraintsValid = true, true
	p.cert.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, p.cert, p.cert, p.key.Public(), p.key)
	if err != nil {
		return fmt.Errorf("make a CA: %w", err)
	}
	return replaceFile(p.caFile(), "CERTIFICATE", der)
}

// certificate is a template; a negative life is one that is over.
func certificate(name string, life time.Duration) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-valid),
		NotAfter:     now.Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// issue writes a certificate and its key over those of that name, each file in
// one step.
func (p *pki) issue(name string, life time.Duration, addrs ...netip.Addr) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c := certificate(name, life)
	for _, a := range addrs {
		c.IPAddresses = append(c.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, c, p.cert, key.Public(), p.key)
	if err != nil {
		return fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := replaceFile(p.file(name+".key"), "EC PRIVATE KEY", keyDER); err != nil {
		return err
	}
	return replaceFile(p.file(name+".crt"), "CERTIFICATE", der)
}

func replaceFile(path, block string, der []byte) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}), 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// operatorTLS trusts any etcd, since certificates are not what the operator's
// client is to test, and reads its own certificate at each handshake.
func (p *pki) operatorTLS() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(p.file(operatorCert+".crt"), p.file(operatorCert+".key"))
			return &c, err
		},
	}
}

// daemonArgs are the flags with which a daemon uses the pki's files.
func (p *pki) daemonArgs() []string {
	return []string{
		"--etcd-cafile", p.caFile(),
		"--etcd-certfile", p.file(daemonCert + ".crt"),
		"--etcd-keyfile", p.file(daemonCert + ".key"),
	}
}
