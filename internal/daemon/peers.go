package daemon

import (
	"fmt"
	"net/netip"
	"time"

	"twill/internal/api"
	"twill/subnet"
	"twill/tunnel"
)

const (
	// silentAfter is how long a peer may send nothing and still count as up.
	silentAfter = 2 * time.Minute
	// claimStays is how long it is told that somebody uses a peer's name: longer
	// than the pause between probes.
	claimStays = 2 * time.Minute
)

// reportPeers tells of the peers of t; mtu is the device's.
func reportPeers(t *Table, mtu int, now time.Time) api.Peers {
	out := api.Peers{Schema: api.Schema, Time: now, Peers: make([]api.Peer, 0, len(t.View.Peers))}
	for i, p := range t.View.Peers {
		out.Peers = append(out.Peers, reportPeer(p, t.Peers[i].Stats(), mtu, now))
	}
	for _, s := range t.View.Skipped {
		out.Unused = append(out.Unused, reportSkipped(s))
	}
	return out
}

// reportSkipped tells of a lease that is not used. What does not parse of it is
// left out.
func reportSkipped(s subnet.Skipped) api.Peer {
	l := s.Lease
	return api.Peer{
		Name: l.Name, Subnet: l.Subnet, Endpoint: netip.AddrPortFrom(l.PublicIP, l.Port), Node: l.Node, NodeID: l.NodeID,
		State: api.StateIncompatible, Reason: s.Problem, Remedy: subnet.Remedy(l),
	}
}

func reportPeer(p *subnet.Peer, stats tunnel.PeerStats, mtu int, now time.Time) api.Peer {
	state := peerState(p, &stats, now)
	reason, remedy := peerReason(p, &stats, state, now)
	a := api.Peer{
		Subnet: p.Subnet, Endpoint: p.Endpoint, Node: p.Node, NodeID: p.NodeID,
		State: state, Reason: reason, Remedy: remedy, LastSeen: stats.LastSeen, ClaimedFrom: claimedFrom(&stats, now),
		Loss: ratio(stats.Path.Loss), LossOut: ratio(stats.Path.LossOut), LossIn: ratio(stats.Path.LossIn),
		PathMTU:    mtu,
		ProbesSent: stats.Path.ProbesSent, ProbesAnswered: stats.Path.ProbesAnswered,
		RxPackets: stats.RxPackets, RxBytes: stats.RxBytes,
		TxPackets: stats.TxPackets, TxBytes: stats.TxBytes, Drops: stats.Dropped(), DropReasons: dropReasons(stats.Drops[:]),
	}
	if state == api.StateUnreachable {
		a.ReasonCode = unreachable(p, &stats, now).Code
	}
	if stats.Path.MTU != 0 {
		a.PathMTU = stats.Path.MTU
	}
	if stats.Path.ProbesAnswered > 0 {
		a.RTT = &api.RTT{
			Smoothed:  stats.Path.RTT.Seconds(),
			Variation: stats.Path.RTTVar.Seconds(),
			Min:       stats.Path.MinRTT.Seconds(),
			Last:      stats.Path.LastRTT.Seconds(),
		}
		ahead := stats.Path.ClockAhead.Seconds()
		a.ClockAhead = &ahead
	}
	return a
}

// peerState says how a peer is.
func peerState(p *subnet.Peer, stats *tunnel.PeerStats, now time.Time) api.PeerState {
	switch {
	case !p.Vanished.IsZero():
		return api.StateVanished
	case stats.Path.Unreachable() && p.Proto > subnet.ProtoVersion:
		return api.StateIncompatible
	case stats.Path.Unreachable():
		return api.StateUnreachable
	case now.Sub(stats.LastSeen) < silentAfter:
		return api.StateUp
	}
	return api.StateSilent
}

// peerReason says why a peer is not up, and what to do about it.
func peerReason(p *subnet.Peer, stats *tunnel.PeerStats, state api.PeerState, now time.Time) (reason, remedy string) {
	switch state {
	case api.StateVanished:
		return "its lease is gone from etcd", "nothing, if the host was taken out; else look whether its daemon reaches etcd"
	case api.StateIncompatible:
		return fmt.Sprintf("no answer to %d probes, and its lease says control protocol %d, of which this twill knows up to %d", stats.Path.Unanswered, p.Proto, subnet.ProtoVersion),
			"upgrade twill on this host"
	case api.StateUnreachable:
		problem := unreachable(p, stats, now)
		return problem.Problem, problem.Remedy
	case api.StateUp:
		return "", ""
	}
	switch {
	case p.Proto == 0:
		return "runs Flannel, which cannot be probed; it may have nothing to say", "nothing, unless its pods are not reached; then look there"
	case stats.Path.ProbesSent == 0:
		return "it is not probed", "nothing; with --probe-interval it would be"
	}
	return "it has not been heard since its last reply", "wait some seconds: probes will tell"
}

// claimedFrom is the address, if there is one, that packets lately came from which claim to be the peer's.
func claimedFrom(stats *tunnel.PeerStats, now time.Time) netip.Addr {
	if now.Sub(stats.Claimed.At) > claimStays {
		return netip.Addr{}
	}
	return stats.Claimed.From
}

// ratio is nil where nothing was sent.
func ratio(l tunnel.Loss) *float64 {
	if l.Sent == 0 {
		return nil
	}
	r := float64(l.Lost) / float64(l.Sent)
	return &r
}
