package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/daemon"
	"twill/tunnel"
)

// parseRun is the Config that `twill run args…` would start the daemon with.
func parseRun(t *testing.T, args ...string) (cfg daemon.Config, err error) {
	t.Helper()
	app := newApp()
	for _, c := range app.Commands {
		if c.Name == "run" {
			c.Action = func(c *cli.Context) (err error) {
				cfg, err = daemonConfig(c)
				return err
			}
		}
	}
	err = app.Run(append([]string{"twill", "run"}, args...))
	return cfg, err
}

// Flannel's flags, with the defaults of its documentation.
func TestFlannelDefaults(t *testing.T) {
	cfg, err := parseRun(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []struct {
		name string
		ok   bool
	}{
		{"etcd-endpoints", slices.Equal(cfg.Etcd.Endpoints, []string{"http://127.0.0.1:2379"})},
		{"etcd-prefix", cfg.Etcd.Prefix == "/coreos.com/network"},
		{"subnet-lease-renew-margin", cfg.RenewMargin == time.Hour},
		{"ip-masq", !cfg.IPMasq},
		{"iptables-forward-rules", cfg.ForwardRules},
		{"iptables-resync", cfg.Resync == 5*time.Second},
		{"healthz-ip, healthz-port", cfg.Healthz.String() == "0.0.0.0:0"},
		{"tun-name", cfg.TunName == "twill0"},
		{"spoof-check", cfg.SpoofCheck == tunnel.SpoofStrict},
		{"lease-grace", cfg.LeaseGrace == time.Minute},
	} {
		if !check.ok {
			t.Errorf("default of %s is wrong: %+v", check.name, cfg)
		}
	}
}

// A flag of Flannel's is read from either variable, twill's own first; the
// command line wins over both.
func TestEnvironment(t *testing.T) {
	prefix := func(args ...string) string {
		t.Helper()
		cfg, err := parseRun(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Etcd.Prefix
	}
	t.Setenv("FLANNELD_ETCD_PREFIX", "/flannel")
	if got := prefix(); got != "/flannel" {
		t.Errorf("with FLANNELD_ETCD_PREFIX: %s, want /flannel", got)
	}
	t.Setenv("TWILL_ETCD_PREFIX", "/twill")
	if got := prefix(); got != "/twill" {
		t.Errorf("with TWILL_ETCD_PREFIX too: %s, want /twill", got)
	}
	if got := prefix("--etcd-prefix", "/line"); got != "/line" {
		t.Errorf("with --etcd-prefix too: %s, want /line", got)
	}
}

// Every flag of Flannel's that makes sense here has Flannel's variable.
func TestFlannelFlagsHaveFlannelVariables(t *testing.T) {
	flags := map[string][]string{}
	for _, f := range runCommand().Flags {
		flags[f.Names()[0]] = f.(cli.DocGenerationFlag).GetEnvVars()
	}
	for _, name := range []string{
		"etcd-endpoints", "etcd-prefix", "etcd-keyfile", "etcd-certfile", "etcd-cafile", "etcd-username", "etcd-password",
		"iface", "iface-regex", "iface-can-reach", "public-ip", "subnet-file", "subnet-lease-renew-margin", "ip-masq",
		"iptables-resync", "iptables-forward-rules", "healthz-ip", "healthz-port",
	} {
		if !slices.Contains(flags[name], "FLANNELD_"+envName(name)) {
			t.Errorf("--%s is read from %v, want FLANNELD_%s among them", name, flags[name], envName(name))
		}
	}
	for name, vars := range flags {
		if !slices.Contains(vars, "TWILL_"+envName(name)) {
			t.Errorf("--%s is read from %v, want TWILL_%s among them", name, vars, envName(name))
		}
	}
}

// A comma is part of a regular expression.
func TestRepeatedFlags(t *testing.T) {
	cfg, err := parseRun(t, "--iface-regex", "eth[0-9]{1,2}", "--iface-regex", "ens", "--iface", "eth0", "--iface", "198.18.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Underlay.Regexes) != 2 || cfg.Underlay.Regexes[0].String() != "eth[0-9]{1,2}" || len(cfg.Underlay.Ifaces) != 2 {
		t.Errorf("got %+v", cfg.Underlay)
	}
}

func TestHTTPAddr(t *testing.T) {
	for value, want := range map[string]string{
		"":                "invalid AddrPort",
		"127.0.0.1:8286":  "127.0.0.1:8286",
		"[::1]:8286":      "[::1]:8286",
		":8286":           "invalid AddrPort",
		"8286":            "",
		"127.0.0.1":       "",
		"127.0.0.1:0":     "",
		"localhost:8286":  "",
		":65536":          "",
		"127.0.0.1:65536": "",
	} {
		cfg, err := parseRun(t, "--http-addr", value)
		if (err != nil) != (want == "") || err == nil && cfg.HTTP.String() != want {
			t.Errorf("--http-addr %q: %v, %v; want %q", value, cfg.HTTP, err, want)
		}
		if value == ":8286" && cfg.HTTP.Port() != 8286 {
			t.Errorf("--http-addr %q: port %d", value, cfg.HTTP.Port())
		}
		if err != nil && (exitCode(err) != exitUsage || !strings.Contains(err.Error(), "http-addr")) {
			t.Errorf("--http-addr %q: %v, exit code %d", value, err, exitCode(err))
		}
	}
}
