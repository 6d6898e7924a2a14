package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"twill/routes"
	"twill/subnet"
	"twill/tunnel"
)

// Config is everything a run needs to know; main makes it from the flags.
type Config struct {
	Etcd            subnet.EtcdConfig
	EmbedEtcd       bool           // run an etcd in this process and use it
	EmbedEtcdListen netip.AddrPort // its client address

	Network       netip.Prefix // writes a network config if there is none; the zero Prefix: do not
	Underlay      routes.Selector
	PublicIP      netip.Addr // what peers send to; the zero Addr: the underlay address
	PublicPort    uint16     // UDP, that peers send to; 0: Port. Set: other hosts may have the same PublicIP
	Port          uint16     // UDP, that we listen on; 0: the network config's
	NodeName      string
	RenewMargin   time.Duration
	LeaseGrace    time.Duration
	SpoofCheck    tunnel.SpoofCheck
	Broadcast     bool          // packets to the broadcast addresses of subnets pass
	ProbeInterval time.Duration // of peers in use; 0: no probes
	TunName       string
	MTU           int // of the TUN, bytes; 0: underlay MTU − encapsulation
	Queues        int
	Offloads      tunnel.Offloads
	RunDir        string // control socket, subnet.env
	StateDir      string // node id, embedded etcd's data
	SubnetFile    string // "": subnet.env in RunDir
	IPMasq        bool
	ForwardRules  bool
	Resync        time.Duration  // of the iptables rules
	SetSysctls    bool           // net.ipv4.ip_forward=1, if it is not
	Healthz       netip.AddrPort // HTTP, /healthz and /readyz; port 0: off
	HTTP          netip.AddrPort // all of web; the zero Addr: every address; port 0: off
	HTTPHosts     []string       // names that HTTP clients may call this host by, beside its own
	PeerMetrics   bool           // series for each peer
	Version       string
	Log           *slog.Logger
	LogLevel      *slog.LevelVar // of Log
}

const (
	// maxQueues is MAX_TAP_QUEUES (drivers/net/tun.c).
	maxQueues = 256
	// minMTU is what every IPv4 host must be able to take (RFC 791).
	minMTU = 576
	maxMTU = 65535 - encapsulation
	// minProbeInterval is how often the tunnel looks at each peer.
	minProbeInterval = time.Second
	// encapsulation is the outer header: IPv4 without options, and UDP.
	encapsulation = 20 + 8
)

// Validate reports the first field that no run could use, before anything is
// touched.
func (c Config) Validate() error {
	if !c.EmbedEtcd {
		if err := c.Etcd.Validate(); err != nil {
			return err
		}
	}
	if err := routes.CheckDeviceName(c.TunName); err != nil {
		return fmt.Errorf("tun-name: %w", err)
	}
	switch {
	case c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU):
		return fmt.Errorf("mtu %d: want %d to %d, or 0 for underlay MTU - %d", c.MTU, minMTU, maxMTU, encapsulation)
	case c.Queues < 1 || c.Queues > maxQueues:
		return fmt.Errorf("queues %d: want 1 to %d", c.Queues, maxQueues)
	case c.RunDir == "" || c.StateDir == "":
		return errors.New("run-dir and state-dir must not be empty")
	case c.RenewMargin <= 0 || c.RenewMargin >= subnet.DefaultTTL:
		return fmt.Errorf("subnet-lease-renew-margin %.0f: want 1 to %.0f minutes", c.RenewMargin.Minutes(), subnet.DefaultTTL.Minutes()-1)
	case c.LeaseGrace < 0:
		return fmt.Errorf("lease-grace %v: want 0 or more", c.LeaseGrace)
	case c.ProbeInterval != 0 && c.ProbeInterval < minProbeInterval:
		return fmt.Errorf("probe-interval %v: want %v or more, or 0 for no probes", c.ProbeInterval, minProbeInterval)
	case c.Resync <= 0:
		return fmt.Errorf("iptables-resync %v: want more than 0", c.Resync)
	case c.Network.IsValid() && c.Network != c.Network.Masked():
		return fmt.Errorf("network %s has host bits set: want %s", c.Network, c.Network.Masked())
	}
	if err := checkPublicIP(c.PublicIP); err != nil {
		return err
	}
	if err := c.checkHTTP(); err != nil {
		return err
	}
	if c.Network.IsValid() {
		if _, err := subnet.DefaultConfig(c.Network); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	if err := subnet.CheckNode(c.NodeName); err != nil {
		return fmt.Errorf("node-name: %w", err)
	}
	return nil
}

func checkPublicIP(ip netip.Addr) error {
	if ip.IsValid() && (!ip.Is4() || ip.IsLoopback() || ip.IsMulticast() || ip.IsUnspecified()) {
		return fmt.Errorf("public-ip %s: want an IPv4 address at which peers reach this host", ip)
	}
	return nil
}

// checkHTTP finds two listeners that would be in each other's way.
func (c Config) checkHTTP() error {
	every := func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
	h, http := c.Healthz, c.HTTP
	if h.Port() != 0 && h.Port() == http.Port() && (h.Addr() == http.Addr() || every(h.Addr()) || every(http.Addr())) {
		return fmt.Errorf("healthz-port %d is http-addr's port, too: http-addr has /healthz already; leave one of the two out, or give it another port", h.Port())
	}
	return nil
}

// SubnetFilePath is where the run writes its subnet and MTU.
func (c Config) SubnetFilePath() string {
	if c.SubnetFile != "" {
		return c.SubnetFile
	}
	return filepath.Join(c.RunDir, "subnet.env")
}

// SocketPath is where the daemon of a run directory listens for control.
func SocketPath(runDir string) string { return filepath.Join(runDir, "twill.sock") }

func etcdDir(stateDir string) string { return filepath.Join(stateDir, "etcd") }
