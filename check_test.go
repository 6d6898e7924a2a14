package main

import (
	"strings"
	"testing"

	"twill/internal/daemon"
	"twill/internal/envfile"
)

// What check --from-flannel prints makes twill's Config the same as Flannel's own variables do.
func TestFromFlannelConfiguresTheSame(t *testing.T) {
	flannel := map[string]string{
		"FLANNELD_ETCD_PREFIX":               "/x/network",
		"FLANNELD_IFACE_REGEX":               "eth[0-9]{1,2}",
		"FLANNELD_IP_MASQ":                   "true",
		"FLANNELD_IPTABLES_FORWARD_RULES":    "false",
		"FLANNELD_IPTABLES_RESYNC":           "7",
		"FLANNELD_PUBLIC_IP":                 "192.0.2.5",
		"FLANNELD_SUBNET_LEASE_RENEW_MARGIN": "90",
		"FLANNELD_HEALTHZ_PORT":              "10256",
		"FLANNELD_ETCD_ENDPOINTS":            "http://127.0.0.1:1", // nobody there
	}
	var args []string
	for name, value := range flannel {
		args = append(args, "--"+strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "FLANNELD_")), "_", "-")+"="+value)
	}
	var out strings.Builder
	app := newApp()
	app.Writer = &out
	if err := app.Run(append([]string{"twill", "check", "--from-flannel", "--"}, args...)); err != nil {
		t.Fatal(err)
	}
	vars, _ := envfile.Parse([]byte(out.String()))
	translated := map[string]string{}
	for _, v := range vars {
		translated[v.Name] = v.Value
	}
	got, want := runConfig(t, translated), runConfig(t, flannel)
	if got.Etcd.Prefix != want.Etcd.Prefix || got.IPMasq != want.IPMasq || got.ForwardRules != want.ForwardRules ||
		got.Resync != want.Resync || got.PublicIP != want.PublicIP || got.RenewMargin != want.RenewMargin ||
		got.Healthz != want.Healthz || got.Underlay.Regexes[0].String() != want.Underlay.Regexes[0].String() {
		t.Errorf("got %+v, want %+v; printed:\n%s", got, want, &out)
	}
}

// runConfig is the Config of `twill run` in an environment.
func runConfig(t *testing.T, env map[string]string) (cfg daemon.Config) {
	t.Helper()
	t.Run("run", func(t *testing.T) { // the end of which takes the variables away
		for name, value := range env {
			t.Setenv(name, value)
		}
		var err error
		if cfg, err = parseRun(t); err != nil {
			t.Fatal(err)
		}
	})
	return cfg
}
