package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"twill/internal/api"
)

// These series grow with the network, and come and go with its hosts.
var (
	peerUp       = peerDesc("twill_peer_up", "1 while the peer is up.")
	peerPackets  = peerDesc("twill_peer_packets_total", "Pods' packets that were carried to and from the peer.", directionLabel)
	peerBytes    = peerDesc("twill_peer_bytes_total", "Their bytes, without the tunnel's headers.", directionLabel)
	peerDropped  = peerDesc("twill_peer_dropped_packets_total", "Packets to and from the peer that were dropped.")
	peerRTT      = peerDesc("twill_peer_rtt_seconds", "Smoothed round-trip time of probes.")
	peerLoss     = peerDesc("twill_peer_probe_loss_ratio", "Share of the last 32 probes that had no answer.")
	peerMTU      = peerDesc("twill_peer_path_mtu_bytes", "Largest packet of a pod that is sent to the peer in one piece.")
	peerLastSeen = peerDesc("twill_peer_last_seen_timestamp_seconds", "When something was last heard of the peer, in Unix time; 0 for never.")
)

var perPeer = []*prometheus.Desc{peerUp, peerPackets, peerBytes, peerDropped, peerRTT, peerLoss, peerMTU, peerLastSeen}

// peerDesc has the labels of every peer's series: the subnet, which no two share, and its node's name.
func peerDesc(name, help string, labels ...string) *prometheus.Desc {
	return desc(name, help, append([]string{"subnet", "node"}, labels...)...)
}

func (e emitter) peer(p *api.Peer) {
	subnet := p.Subnet.String()
	e.gauge(peerUp, boolean(p.State == api.StateUp), subnet, p.Node)
	e.counter(peerPackets, p.TxPackets, subnet, p.Node, transmit)
	e.counter(peerPackets, p.RxPackets, subnet, p.Node, receive)
	e.counter(peerBytes, p.TxBytes, subnet, p.Node, transmit)
	e.counter(peerBytes, p.RxBytes, subnet, p.Node, receive)
	e.counter(peerDropped, p.Drops, subnet, p.Node)
	if p.RTT != nil {
		e.gauge(peerRTT, p.RTT.Smoothed, subnet, p.Node)
	}
	if p.Loss != nil {
		e.gauge(peerLoss, *p.Loss, subnet, p.Node)
	}
	e.gauge(peerMTU, float64(p.PathMTU), subnet, p.Node)
	e.gauge(peerLastSeen, unix(p.LastSeen), subnet, p.Node)
}
