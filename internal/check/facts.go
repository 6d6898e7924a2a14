package check

import (
	"net/netip"
	"time"

	"twill/internal/api"
	"twill/internal/netfilter"
	"twill/routes"
	"twill/subnet"
)

// Settings are those of the daemon that concern the host.
type Settings struct {
	TunName      string
	Port         uint16 // 0: the network config's
	PublicPort   uint16 // 0: the same
	MTU          int    // 0: the underlay's less Encapsulation
	SubnetFile   string
	StateDir     string
	Underlay     routes.Selector
	Etcd         subnet.EtcdConfig
	SetSysctls   bool
	ForwardRules bool
}

// Encapsulation is the outer header in bytes: IPv4 without options, and UDP.
const Encapsulation = 20 + 8

// Facts are what a look at the host, at etcd and at the daemon saw. An error says
// why a fact could not be read; the fact is then zero.
type Facts struct {
	Settings

	TUNErr        error // of opening /dev/net/tun
	CapabilityErr error
	Forwarding    bool
	ForwardingErr error

	Links       []Link
	LinksErr    error
	Chosen      routes.Underlay // underlay that a daemon would choose
	UnderlayErr error
	OverlapErr  error // of the network with this host's addresses and routes

	Filters    []netfilter.Table
	FiltersErr error
	Droppers   netfilter.Droppers

	PortUsers []string // who has the UDP port, as far as that is to be seen

	Systemd Systemd

	DaemonJSONErr error
	Env           subnet.Env
	EnvErr        error

	DaemonErr error // no daemon answered
	LastEnd   string
	Status    api.Status
	Peers     []api.Peer
	// Strays are peers whose endpoints are reached by another interface than the
	// underlay, by the kernel's routes: interface by subnet.
	Strays map[netip.Prefix]string

	Etcd      []subnet.EndpointState
	Snapshot  subnet.Snapshot
	Network   subnet.Config // of Snapshot
	EtcdErr   error         // of reading Snapshot, or of its config
	RoundTrip time.Duration // of reading Snapshot
	NodeID    string        // "": none yet
	OwnTTL    time.Duration // of our lease; 0: not known
}

// Link is an interface of the host.
type Link struct {
	Name     string
	Kind     string // as ip-link(8) has it: bridge, veth, …
	MTU      int    // bytes
	Up       bool
	Addrs    []netip.Prefix
	Ports    []Port // of a bridge
	RPFilter int    // the filter in force, net.ipv4.conf: the larger of all and the link's own
}

// Port is an interface in a bridge.
type Port struct {
	Name string
	MTU  int
}

// Systemd is what systemd says of twill and Docker.
type Systemd struct {
	Runs        bool
	Enabled     string // of twill.service, as `systemctl is-enabled` says; "": there is no such unit
	DockerAfter bool   // docker.service starts after twill.service
	Docker      bool   // there is a docker.service
	DockerArgs  bool   // Docker gets twill's options, by our generator's drop-in
}

// running says whether the daemon answered.
func (f *Facts) running() bool { return f.DaemonErr == nil }

// link returns the link called name, nil if there is none.
func (f *Facts) link(name string) *Link {
	for i := range f.Links {
		if f.Links[i].Name == name {
			return &f.Links[i]
		}
	}
	return nil
}

// network is the overlay, from the daemon or else from etcd; not valid where
// neither tells.
func (f *Facts) network() netip.Prefix {
	if f.running() {
		return f.Status.Network
	}
	return f.Network.Network
}

// deviceMTU is the TUN device's, in bytes.
func (f *Facts) deviceMTU() int {
	switch {
	case f.running():
		return f.Status.MTU
	case f.MTU != 0:
		return f.MTU
	}
	return f.Chosen.MTU - Encapsulation
}

// containerBridges are the bridges with an address in the network.
func (f *Facts) containerBridges() (bridges []*Link) {
	for i := range f.Links {
		l := &f.Links[i]
		if l.Kind == "bridge" && f.addressIn(l) {
			bridges = append(bridges, l)
		}
	}
	return bridges
}

func (f *Facts) addressIn(l *Link) bool {
	network := f.network()
	for _, a := range l.Addrs {
		if network.IsValid() && network.Contains(a.Addr()) {
			return true
		}
	}
	return false
}
