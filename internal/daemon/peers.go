package daemon

import (
	"fmt"
	"time"

	"twill/internal/api"
	"twill/subnet"
	"twill/tunnel"
)

const (
	// silentAfter is how long a peer may send nothing and still count as up.
	silentAfter = 2 * time.Minute
	// heardWithin is how recent the last packet of a peer is that sends but does
	// not answer.
	heardWithin = 10 * time.Second
)

// reportPeers tells of the peers of t; mtu is the device's.
func reportPeers(t *Table, mtu int, now time.Time) api.Peers {
	out := api.Peers{Schema: api.Schema, Peers: make([]api.Peer, 0, len(t.View.Peers))}
	for i, p := range t.View.Peers {
		out.Peers = append(out.Peers, reportPeer(p, t.Peers[i].Stats(), mtu, now))
	}
	return out
}

func reportPeer(p *subnet.Peer, stats tunnel.PeerStats, mtu int, now time.Time) api.Peer {
	state, reason := peerState(p, &stats, now)
	a := api.Peer{
		Subnet: p.Subnet, Endpoint: p.Endpoint, Node: p.Node, NodeID: p.NodeID,
		State: state, Reason: reason, LastSeen: stats.LastSeen,
		Loss: ratio(stats.Path.Loss), LossOut: ratio(stats.Path.LossOut), LossIn: ratio(stats.Path.LossIn),
		PathMTU:    mtu,
		ProbesSent: stats.Path.ProbesSent, ProbesAnswered: stats.Path.ProbesAnswered,
		RxPackets: stats.RxPackets, RxBytes: stats.RxBytes,
		TxPackets: stats.TxPackets, TxBytes: stats.TxBytes, Drops: stats.Dropped(), DropReasons: dropReasons(stats.Drops[:]),
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

// peerState says how a peer is, and why it is not up.
func peerState(p *subnet.Peer, stats *tunnel.PeerStats, now time.Time) (state api.PeerState, reason string) {
	silent := now.Sub(stats.LastSeen)
	switch {
	case !p.Vanished.IsZero():
		return api.StateVanished, "its lease is gone from etcd"
	case stats.Path.Unreachable():
		return api.StateUnreachable, unreachableReason(stats, silent)
	case silent < silentAfter:
		return api.StateUp, ""
	case p.Proto == 0:
		return api.StateSilent, "runs Flannel, which cannot be probed; it may have nothing to say"
	case stats.Path.ProbesSent == 0:
		return api.StateSilent, "it is not probed"
	}
	return api.StateSilent, "it has not been heard since its last reply"
}

func unreachableReason(stats *tunnel.PeerStats, silent time.Duration) string {
	missed := fmt.Sprintf("no answer to %d probes", stats.Path.Unanswered)
	switch {
	case stats.LastSeen.IsZero():
		return missed + ", and nothing was ever heard of it: is its daemon running, and UDP to its port let through?"
	case silent < heardWithin:
		return missed + ", though its packets arrive: what we send does not reach it"
	}
	return fmt.Sprintf("%s, and nothing heard for %s: is its daemon running, and UDP let through both ways?", missed, silent.Round(time.Second))
}

// ratio is nil where nothing was sent.
func ratio(l tunnel.Loss) *float64 {
	if l.Sent == 0 {
		return nil
	}
	r := float64(l.Lost) / float64(l.Sent)
	return &r
}
