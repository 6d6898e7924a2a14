package check

import (
	"fmt"
	"net/netip"
	"strings"

	"twill/internal/api"
	"twill/internal/netfilter"
)

func device(f *Facts, r *report) {
	if f.TUNErr != nil {
		r.fail(api.FindingTUN, "modprobe tun, and let twill's user open /dev/net/tun", "no TUN device can be made: %v", f.TUNErr)
		return
	}
	r.ok(api.FindingTUN, "/dev/net/tun can be opened")
	if f.running() && f.LinksErr == nil && f.link(f.TunName) == nil {
		r.fail(api.ProblemDevice, "systemctl restart twill", "device %s is gone, though the daemon runs", f.TunName)
	}
}

func capability(f *Facts, r *report) {
	if f.CapabilityErr != nil {
		r.warn(api.FindingCapability, "run twill check as root", "not everything can be seen: %v", f.CapabilityErr)
	}
}

func forwarding(f *Facts, r *report) {
	switch {
	case f.ForwardingErr != nil:
		r.warn(api.FindingForwarding, "sysctl -w net.ipv4.ip_forward=1", "%v", f.ForwardingErr)
	case f.Forwarding:
		r.ok(api.FindingForwarding, "net.ipv4.ip_forward is 1")
	case f.SetSysctls && !f.running():
		r.ok(api.FindingForwarding, "net.ipv4.ip_forward is 0, and twill will set it")
	default:
		r.fail(api.FindingForwarding, "sysctl -w net.ipv4.ip_forward=1", "net.ipv4.ip_forward is 0: this host does not pass the pods' packets on")
	}
}

// strict is the value of rp_filter that drops a packet whose source is not
// reached by the interface that it came in by (RFC 3704); 2 lets it pass if there
// is any route to it.
const strict = 1

// reversePath looks at filters that drop in silence. A packet that comes out of the
// device may be the tunnel's ICMP error, from the device's own address, or come
// from a peer's own address, which is reached by the underlay: strict drops both.
func reversePath(f *Facts, r *report) {
	before := len(r.findings)
	if l := f.link(f.TunName); l != nil && l.RPFilter == strict {
		r.fail(api.FindingReverse, fmt.Sprintf("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.%s.rp_filter=0 (to keep: a file in /etc/sysctl.d)", l.Name),
			"rp_filter is strict on %s: the kernel drops what comes from peers' own addresses, and the tunnel's ICMP errors to pods", l.Name)
	}
	for subnet, by := range f.Strays {
		if l := f.link(f.Chosen.Name); l != nil && l.RPFilter == strict {
			r.fail(api.FindingReverse, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2, or a route to the peer by %s", l.Name, l.Name),
				"rp_filter is strict on %s, and the peer of %s is reached by %s: the kernel drops its datagrams", l.Name, subnet, by)
		}
	}
	for _, b := range f.containerBridges() {
		if own := f.Status.Subnet; b.RPFilter == strict && f.running() && !overlapsAny(own, b.Addrs) {
			r.warn(api.FindingReverse, "restart the container runtime with twill's subnet", "rp_filter is strict on %s, whose pods are not in %s: the kernel drops what they send", b.Name, own)
		}
	}
	if len(r.findings) == before {
		r.ok(api.FindingReverse, "no reverse path filter is in the way")
	}
}

func overlapsAny(p netip.Prefix, others []netip.Prefix) bool {
	for _, o := range others {
		if p.Overlaps(o) {
			return true
		}
	}
	return false
}

// firewall judges a packet from a pod of ours to one of another host, and the way
// back.
func firewall(f *Facts, r *report) {
	if f.FiltersErr != nil {
		r.warn(api.FindingFirewall, "run twill check as root", "the firewall's rules cannot be read: %v", f.FiltersErr)
		return
	}
	for _, chain := range f.Droppers.Forward {
		remedy := fmt.Sprintf("nft insert rule %s ip saddr %s accept; nft insert rule %s ip daddr %s accept", chain, f.network(), chain, f.network())
		r.warn(api.FindingFirewall, remedy, "the chain %s of nftables drops what no rule of it accepts; twill's rules are in iptables, and it does not see them", chain)
	}
	network, own := f.network(), f.Status.Subnet
	if !network.IsValid() {
		return
	}
	if !own.IsValid() {
		own = netip.PrefixFrom(network.Addr(), 30) // any will do to judge rules about the network
	}
	bridge := "docker0"
	if bridges := f.containerBridges(); len(bridges) > 0 {
		bridge = bridges[0].Name
	}
	pod, remote := own.Addr().Next().Next(), lastOf(network)
	before := len(r.findings)
	for _, table := range f.Filters {
		for _, p := range []netfilter.Packet{
			{In: bridge, Out: f.TunName, Src: pod, Dst: remote},
			{In: f.TunName, Out: bridge, Src: remote, Dst: pod},
		} {
			judge(f, r, table, p, network)
		}
	}
	if len(r.findings) == before && len(f.Droppers.Forward) == 0 {
		r.ok(api.FindingFirewall, "FORWARD lets the overlay's packets pass")
	}
}

func judge(f *Facts, r *report, table netfilter.Table, p netfilter.Packet, network netip.Prefix) {
	v := table.Judge("FORWARD", p)
	switch {
	case v.Accept && len(v.Unsure) > 0:
		r.warn(api.FindingFirewall, "look at these rules by hand", "packets from %s to %s pass, unless they match: %s", p.In, p.Out, strings.Join(v.Unsure, "; "))
	case v.Accept:
	case !f.running() && f.ForwardRules && strings.HasPrefix(v.By, "-P "):
		// The daemon will make its rules, which come before the policy.
	default:
		r.fail(api.FindingFirewall,
			fmt.Sprintf("start twill with --iptables-forward-rules, or: %s -I FORWARD -s %s -j ACCEPT; %s -I FORWARD -d %s -j ACCEPT", table.Program, network, table.Program, network),
			"FORWARD drops what comes from %s and goes to %s, by %s: `%s`", p.In, p.Out, table.Program, v.By)
	}
}

// lastOf is the last address of a network but its broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 31; bit++ {
		a[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(a)
}

func underlay(f *Facts, r *report) {
	if f.UnderlayErr != nil {
		r.fail(api.ProblemUnderlay, "give this host its address and interface back, or name others with --iface", "%v", f.UnderlayErr)
		return
	}
	r.ok(api.ProblemUnderlay, "the underlay is %s, %s, MTU %d", f.Chosen.Name, f.Chosen.Addr, f.Chosen.MTU)
	if fits := f.Chosen.MTU - Encapsulation; f.MTU > fits {
		r.warn(api.FindingPathMTU, fmt.Sprintf("set --mtu to %d, or leave it out", fits), "--mtu %d is more than the %d that the underlay takes in one piece", f.MTU, fits)
	}
}

func port(f *Facts, r *report) {
	number := f.port()
	switch {
	case number == 0:
	case f.running() && len(f.PortUsers) == 0:
		r.fail(api.FindingPort, "systemctl restart twill", "nobody listens on UDP port %d, though the daemon runs", number)
	case f.running():
		r.ok(api.FindingPort, "twill listens on UDP port %d", number)
	case len(f.PortUsers) > 0:
		r.fail(api.FindingPort, "stop it, or set --port: flanneld and twill cannot run on one port", "UDP port %d is in use by %s", number, strings.Join(f.PortUsers, ", "))
	default:
		r.ok(api.FindingPort, "UDP port %d is free", number)
	}
}

func service(f *Facts, r *report) {
	s := f.Systemd
	switch {
	case !s.Runs || s.Enabled == "":
		return // not the package's way to run twill
	case s.Enabled != "enabled" && s.Enabled != "enabled-runtime":
		r.warn(api.FindingService, "systemctl enable --now twill", "twill.service is %s: it does not start at boot", s.Enabled)
		return
	case s.Docker && !s.DockerAfter:
		r.fail(api.FindingService, "systemctl daemon-reload; remove drop-ins of docker.service that reset its order", "docker.service does not start after twill.service: at boot Docker may take a subnet of its own")
		return
	case s.Docker && !s.DockerArgs:
		r.warn(api.FindingService, "systemctl daemon-reload && systemctl restart docker", "docker.service does not get twill's options")
		return
	}
	r.ok(api.FindingService, "twill.service is enabled")
}
