package subnet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEtcdConfigValidate(t *testing.T) {
	good := EtcdConfig{Endpoints: []string{"http://127.0.0.1:2379", "https://[::1]:2379"}, Prefix: "/coreos.com/network"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*EtcdConfig)
		want   string
	}{
		{"no endpoint", func(c *EtcdConfig) { c.Endpoints = nil }, "etcd-endpoints is empty"},
		{"no scheme", func(c *EtcdConfig) { c.Endpoints = []string{"127.0.0.1:2379"} }, `"127.0.0.1:2379" is not a URL`},
		{"other scheme", func(c *EtcdConfig) { c.Endpoints = []string{"ftp://h:1"} }, `"ftp://h:1" is not a URL`},
		{"no host", func(c *EtcdConfig) { c.Endpoints = []string{"http://"} }, `"http://" is not a URL`},
		{"no prefix", func(c *EtcdConfig) { c.Prefix = "//" }, `etcd-prefix: "//" names no key`},
		{"certificate without key", func(c *EtcdConfig) { c.CertFile = "c" }, "go together"},
		{"password file without user", func(c *EtcdConfig) { c.PasswordFile = "p" }, "etcd-password-file is set without etcd-username"},
		{"two passwords", func(c *EtcdConfig) { c.Username, c.Password, c.PasswordFile = "u", "hunter2", "p" }, "exclude each other"},
		{"password without user", func(c *EtcdConfig) { c.Password = "hunter2" }, "etcd-password is set without etcd-username"},
	} {
		c := good
		tt.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// As Flannel joins them: /p, /p/ and //p are one network, p is another.
func TestPrefixIsCleaned(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	for _, prefix := range []string{n.prefix + "/", "/" + n.prefix, n.prefix + "//", n.prefix + "/./"} {
		c := n.etcd()
		c.Prefix = prefix
		s, err := n.dialAt(c, host(1)).registry.Snapshot(n.rpc())
		if err != nil || s.ConfigRev == 0 || len(s.Leases) != 1 {
			t.Errorf("prefix %q: %+v, %v; want the config and a lease", prefix, s, err)
		}
	}
	c := n.etcd()
	c.Prefix = strings.TrimPrefix(n.prefix, "/")
	if s, err := n.dialAt(c, host(1)).registry.Snapshot(n.rpc()); err != nil || s.ConfigRev != 0 {
		t.Errorf("prefix %q: %+v, %v; want nothing there", c.Prefix, s, err)
	}
}

func TestLoginIsWaitedForAndEndsAtOnce(t *testing.T) {
	t.Parallel()
	wire := newRelay(t, "127.0.0.1:1")
	wire.cut()
	log := &logBuffer{}
	r, err := Dial(t.Context(), EtcdConfig{Endpoints: []string{wire.url()}, Prefix: "/x", Username: "u", Password: "hunter2"}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := r.Snapshot(ctx)
		ended <- err
	}()
	for end := time.Now().Add(patience); len(log.lines("level=WARN")) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no warning")
		}
	}
	begin := time.Now()
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("Snapshot: %v, want context.Canceled", err)
	}
	if d := time.Since(begin); d > time.Second/10 {
		t.Errorf("returned %v after the cancel, want under 100ms", d)
	}
	if strings.Contains(log.String(), "hunter2") || !strings.Contains(log.String(), "connection refused") {
		t.Errorf("log %q, want the cause and no password", log)
	}
}

// TLS that does not come about is not waited out: no retry would mend it.
func TestTLSFaultsAreErrors(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	dir := t.TempDir()
	otherCA := filepath.Join(dir, "ca.pem")
	writeCA(t, otherCA)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, tt := range []struct {
		name string
		c    EtcdConfig
		want string
	}{
		{"another CA", EtcdConfig{Endpoints: []string{server.URL}, CAFile: otherCA}, "certificate signed by unknown authority"},
		{"system CAs", EtcdConfig{Endpoints: []string{server.URL}}, "certificate signed by unknown authority"},
		{"a server without TLS", EtcdConfig{Endpoints: []string{strings.Replace(plain.URL, "http", "https", 1)}}, "first record does not look like a TLS handshake"},
		{"no CA file", EtcdConfig{Endpoints: []string{server.URL}, CAFile: filepath.Join(dir, "missing.pem")}, "missing.pem"},
		{"no certificate", EtcdConfig{Endpoints: []string{server.URL}, CertFile: filepath.Join(dir, "c.pem"), KeyFile: filepath.Join(dir, "k.pem")}, "c.pem"},
	} {
		tt.c.Prefix = "/x"
		log := &logBuffer{}
		begin := time.Now()
		r, err := Dial(ctx, tt.c, slog.New(slog.NewTextHandler(log, nil)))
		if err == nil {
			_, err = r.Snapshot(ctx)
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if d := time.Since(begin); d > rpcTimeout {
			t.Errorf("%s: took %v, want an error at once", tt.name, d)
		}
	}
}

// writeCA makes a CA that has signed nothing.
func writeCA(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "another CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Not even the refusal of a URL may show the login in it, whatever else is wrong
// with it.
func TestLoginInEndpointIsNotShown(t *testing.T) {
	for _, e := range []string{"http://u:hunter2@h:2379", "http://u:hunter2%zz@h", "u:hunter2@h:2379", "etcd://u:hunter2@h"} {
		err := EtcdConfig{Endpoints: []string{e}, Prefix: "/x"}.Validate()
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "etcd-username") {
			t.Errorf("%s: %v, want an error without the password", e, err)
		}
	}
}
