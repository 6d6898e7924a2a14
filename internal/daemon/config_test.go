package daemon

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"twill/subnet"
)

func validConfig() Config {
	return Config{
		Etcd:        subnet.EtcdConfig{Endpoints: []string{"http://127.0.0.1:2379"}, Prefix: "/coreos.com/network"},
		NodeName:    "node1",
		RenewMargin: time.Hour,
		TunName:     "twill0",
		Queues:      1,
		RunDir:      "/run/twill",
		StateDir:    "/var/lib/twill",
		Resync:      5 * time.Second,
		Log:         slog.New(slog.DiscardHandler),
	}
}

// Every error names the flag and what is allowed.
func TestValidate(t *testing.T) {
	if err := validConfig().Validate(); err != nil {
		t.Fatalf("a valid config: %v", err)
	}
	for want, spoil := range map[string]func(*Config){
		`tun-name: device name "": want 1 to 15`:                 func(c *Config) { c.TunName = "" },
		`tun-name: device name "a/b": want`:                      func(c *Config) { c.TunName = "a/b" },
		`tun-name: device name "tw%d": want`:                     func(c *Config) { c.TunName = "tw%d" },
		`tun-name: device name "sixteen-letters!": want 1 to 15`: func(c *Config) { c.TunName = "sixteen-letters!" },
		"mtu 575: want 576 to 65507":                             func(c *Config) { c.MTU = 575 },
		"mtu 65508: want 576 to 65507":                           func(c *Config) { c.MTU = 65508 },
		"queues 0: want 1 to 256":                                func(c *Config) { c.Queues = 0 },
		"queues 257: want 1 to 256":                              func(c *Config) { c.Queues = 257 },
		"run-dir and state-dir must not be empty":                func(c *Config) { c.StateDir = "" },
		"subnet-lease-renew-margin 1440: want 1 to 1439 minutes": func(c *Config) { c.RenewMargin = 24 * time.Hour },
		"subnet-lease-renew-margin 0: want 1 to":                 func(c *Config) { c.RenewMargin = 0 },
		"lease-grace -1s: want 0 or more":                        func(c *Config) { c.LeaseGrace = -time.Second },
		"probe-interval 500ms: want 1s or more, or 0":            func(c *Config) { c.ProbeInterval = time.Second / 2 },
		"iptables-resync 0s: want more than 0":                   func(c *Config) { c.Resync = 0 },
		"network 10.5.1.0/16 has host bits set":                  func(c *Config) { c.Network = netip.MustParsePrefix("10.5.1.0/16") },
		"network: Network 10.5.0.0/29":                           func(c *Config) { c.Network = netip.MustParsePrefix("10.5.0.0/29") },
		"public-ip 127.0.0.1: want an IPv4 address":              func(c *Config) { c.PublicIP = netip.MustParseAddr("127.0.0.1") },
		"public-ip 224.0.0.1: want an IPv4 address":              func(c *Config) { c.PublicIP = netip.MustParseAddr("224.0.0.1") },
		"node-name: ":                                func(c *Config) { c.NodeName = "two words" },
		"etcd-endpoints is empty":                    func(c *Config) { c.Etcd.Endpoints = nil },
		"etcd-certfile and etcd-keyfile go together": func(c *Config) { c.Etcd.CertFile = "cert.pem" },
	} {
		c := validConfig()
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want an error that begins with %q", err, want)
		}
	}
}
