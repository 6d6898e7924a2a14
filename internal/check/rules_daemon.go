package check

import (
	"fmt"
	"slices"
	"time"

	"twill/internal/api"
)

// daemonState says whether a daemon runs, and what it says is wrong.
func daemonState(f *Facts, r *report) {
	switch {
	case f.running():
		r.ok(api.FindingDaemon, "twill %s runs with %s", f.Status.Version, f.Status.Subnet)
	case f.LastEnd != "":
		r.fail(api.FindingDaemon, "put that right, then: systemctl start twill", "twill does not run: it ended with: %s", f.LastEnd)
	default:
		r.warn(api.FindingDaemon, "systemctl enable --now twill", "%v", f.DaemonErr)
	}
	for _, p := range f.Status.Problems {
		switch p.Code {
		case api.ProblemPeersUnreachable, api.ProblemClock, api.ProblemBridge, api.ProblemEtcdSlow:
			// Rules here say more.
		case api.ProblemCached:
			r.warn(p.Code, p.Remedy, "%s", p.Problem)
		default:
			r.fail(p.Code, p.Remedy, "%s", p.Problem)
		}
	}
	for _, p := range f.Status.Notices {
		if p.Code == api.ProblemUnknownSender { // else rules here say more
			r.warn(p.Code, p.Remedy, "%s", p.Problem)
		}
	}
}

// hasProblem says whether the daemon tells of the problem.
func (f *Facts) hasProblem(code string) bool {
	return slices.ContainsFunc(f.Status.Problems, func(p api.Problem) bool { return p.Code == code })
}

// offloads are slower without, not wrong.
func offloads(f *Facts, r *report) {
	for _, o := range f.Status.Offloads {
		if !o.On {
			r.warn(api.FindingOffload, "a newer kernel has it; see --offload where it is switched off", "offload %s is not used, which costs throughput: %s", o.Name, o.Why)
		}
	}
}

// peers that are away are a failure of this host where the daemon says so: else their hosts may be switched off.
func peers(f *Facts, r *report) {
	unreachable, up := 0, 0
	away := r.warn
	if f.hasProblem(api.ProblemPeersUnreachable) {
		away = r.fail
	}
	for _, p := range f.Peers {
		switch p.State {
		case api.StateUnreachable:
			unreachable++
			away(p.ReasonCode, p.Remedy, "peer %s is unreachable: %s", peerName(p), p.Reason)
		case api.StateVanished:
			r.warn(api.FindingPeerLease, fmt.Sprintf("look whether twill runs on %s: it takes its lease again; else nothing is to be done", peerName(p)),
				"the lease of peer %s is gone from etcd: it expired or was deleted; packets go there for the grace time only", peerName(p))
		default:
			up++
		}
		if p.LossOut != nil && *p.LossOut > 0.05 || p.LossIn != nil && *p.LossIn > 0.05 {
			r.warn(api.FindingPeers, "look for a congested or faulty link: `ip -s link` on both hosts, `twill ping`", "packets are lost on the way to or from %s: %s", peerName(p), lossOf(p))
		}
	}
	switch {
	case unreachable > 1 && up == 0:
		r.fail(api.FindingPeers, "begin with this host: its firewall, its address, its link", "no peer answers: the fault is rather here than at %d hosts", unreachable)
	case f.running() && unreachable == 0:
		r.ok(api.FindingPeers, "%d peers, none unreachable", len(f.Peers))
	}
}

func lossOf(p api.Peer) string {
	out, in := 0.0, 0.0
	if p.LossOut != nil {
		out = 100 * *p.LossOut
	}
	if p.LossIn != nil {
		in = 100 * *p.LossIn
	}
	return fmt.Sprintf("%.0f%% out, %.0f%% in", out, in)
}

func peerName(p api.Peer) string {
	if p.Node == "" {
		return p.Subnet.String()
	}
	return fmt.Sprintf("%s (%s)", p.Node, p.Subnet)
}

// paths are those that take less than the device: connections do not break, but
// what answers no ICMP goes in fragments.
func paths(f *Facts, r *report) {
	for _, p := range f.Peers {
		if p.PathMTU < f.Status.MTU && p.State != api.StateUnreachable {
			r.warn(api.FindingPathMTU, fmt.Sprintf("raise the MTU on the way, or set --mtu %d on all hosts and restart the container runtime", p.PathMTU),
				"the path to %s takes packets of %d bytes, less than the MTU %d of %s", peerName(p), p.PathMTU, f.Status.MTU, f.Status.Device)
		}
	}
}

// wrongClock is what no synchronised clock is off by.
const wrongClock = 2 * time.Second

func clocks(f *Facts, r *report) {
	ahead, known := 0, 0
	var wrong []api.Peer
	for _, p := range f.Peers {
		if p.ClockAhead == nil {
			continue
		}
		known++
		if off := time.Duration(*p.ClockAhead * float64(time.Second)); off.Abs() > wrongClock {
			ahead++
			wrong = append(wrong, p)
		}
	}
	if ahead > 1 && ahead == known {
		r.warn(api.ProblemClock, "timedatectl set-ntp true, on this host", "the clock of this host differs from those of all %d peers", known)
		return
	}
	for _, p := range wrong {
		off := time.Duration(*p.ClockAhead * float64(time.Second)).Round(time.Second)
		word := "ahead of"
		if off < 0 {
			word = "behind"
		}
		r.warn(api.ProblemClock, "timedatectl set-ntp true, on the host whose clock is wrong", "the clock of %s is %v %s ours: logs and certificates will not agree", peerName(p), off.Abs(), word)
	}
}
