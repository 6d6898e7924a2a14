package check

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"twill/internal/api"
	"twill/subnet"
)

// overlaps is about a host without a daemon: a start would refuse. A running one
// checks by itself.
func overlaps(f *Facts, r *report) {
	switch {
	case f.running() || !f.network().IsValid():
	case f.OverlapErr != nil:
		r.fail(api.FindingOverlap, "choose another Network with `twill config set` before the first host joins, or renumber what overlaps", "%v", f.OverlapErr)
	default:
		r.ok(api.FindingOverlap, "network %s overlaps nothing of this host", f.network())
	}
}

const restartRuntime = "systemctl restart docker (its containers get new addresses)"

// bridges compares the container bridges with the lease.
func bridges(f *Facts, r *report) {
	if !f.running() {
		return
	}
	own := f.Status.Subnet
	found := f.containerBridges()
	for _, b := range found {
		before := len(r.findings)
		for _, a := range b.Addrs {
			if f.Status.Network.Contains(a.Addr()) && !own.Contains(a.Addr()) {
				r.fail(api.ProblemBridge, restartRuntime, "bridge %s is in %s, but this host's lease is %s: its pods' packets are dropped as foreign, and answers go elsewhere", b.Name, a.Masked(), own)
			}
		}
		bridgeMTU(f, r, b)
		if len(r.findings) == before {
			r.ok(api.ProblemBridge, "bridge %s is in this host's subnet %s", b.Name, own)
		}
	}
	if docker := f.link("docker0"); len(found) == 0 && docker != nil {
		r.warn(api.ProblemBridge, "systemctl daemon-reload && systemctl restart docker; `twill docker-opts` prints the options that Docker needs",
			"bridge docker0 is in %s, outside of the network %s: Docker runs without twill's subnet", addrsOf(docker), f.Status.Network)
	}
}

func addrsOf(l *Link) string {
	if len(l.Addrs) == 0 {
		return "no subnet"
	}
	var all []string
	for _, a := range l.Addrs {
		all = append(all, a.Masked().String())
	}
	return strings.Join(all, ", ")
}

// bridgeMTU finds pods that send more than the device takes: they are told so,
// packet by packet, which not every program heeds. A bridge without ports has the
// MTU that its next port will make.
func bridgeMTU(f *Facts, r *report, b *Link) {
	mtu := f.deviceMTU()
	var large []string
	for _, p := range b.Ports {
		if p.MTU > mtu {
			large = append(large, fmt.Sprintf("%s (%d)", p.Name, p.MTU))
		}
	}
	if len(large) > 0 {
		const most = 5
		if len(large) > most {
			large = append(large[:most], fmt.Sprintf("%d more", len(large)-most))
		}
		r.warn(api.FindingBridgeMTU, "restart the container runtime with --mtu of subnet.env, and make the containers anew",
			"MTU of the pods at %s is larger than the %d of %s: %s", b.Name, mtu, f.TunName, strings.Join(large, ", "))
	}
}

func dockerSettings(f *Facts, r *report) {
	if f.DaemonJSONErr != nil {
		r.fail(api.FindingDaemonJSON, "remove the keys there, then: systemctl restart docker", "%v", f.DaemonJSONErr)
	}
}

func subnetFile(f *Facts, r *report) {
	if !f.running() {
		return
	}
	const remedy = "systemctl restart twill, which writes it; then restart the container runtime"
	s := f.Status
	switch {
	case errors.Is(f.EnvErr, fs.ErrNotExist):
		r.fail(api.ProblemSubnetFile, remedy, "%s is missing", f.SubnetFile)
	case f.EnvErr != nil:
		r.fail(api.ProblemSubnetFile, remedy, "%v", f.EnvErr)
	case f.Env.Subnet != subnet.SubnetEnv(s.Subnet) || f.Env.Network != s.Network:
		r.fail(api.ProblemSubnetFile, remedy, "%s says %s of %s, the daemon holds %s of %s", f.SubnetFile, f.Env.Subnet, f.Env.Network, s.Subnet, s.Network)
	case f.Env.MTU != s.MTU:
		r.warn(api.ProblemSubnetFile, remedy, "%s says MTU %d, device %s has %d", f.SubnetFile, f.Env.MTU, s.Device, s.MTU)
	default:
		r.ok(api.ProblemSubnetFile, "%s says what the daemon holds", f.SubnetFile)
	}
}

// held returns the lease of a subnet in the snapshot.
func (f *Facts) held(p netip.Prefix) (l subnet.Lease, ok bool) {
	for _, l := range f.Snapshot.Leases {
		if l.Subnet == p && l.Err == nil {
			return l, true
		}
	}
	return l, false
}
