package api

import (
	"net/netip"
	"time"
)

// Rates is what `twill top --json` prints.
type Rates struct {
	Schema   int         `json:"schema"`           // number of the schema: the constant Schema
	Time     time.Time   `json:"time"`             // when the measurement ended
	Interval float64     `json:"interval_seconds"` // for how long it was measured
	Peers    []PeerRates `json:"peers"`            // in the order of --sort; without it the busiest first
}

// PeerRates is what was exchanged with a peer, a second.
type PeerRates struct {
	Subnet    netip.Prefix   `json:"subnet"`                // that the peer holds
	Endpoint  netip.AddrPort `json:"endpoint"`              // address and UDP port that packets go to
	Node      string         `json:"node"`                  // host name; "" of a host that runs Flannel
	NodeID    string         `json:"node_id"`               // that stays with the host; "" of a host that runs Flannel
	State     PeerState      `json:"state"`                 // at the end
	RTT       *RTT           `json:"rtt,omitempty"`         // absent before the first answer to a probe
	RxPackets float64        `json:"rx_packets_per_second"` // accepted from the peer
	RxBits    float64        `json:"rx_bits_per_second"`    // their bits, without the outer headers
	TxPackets float64        `json:"tx_packets_per_second"` // sent to the peer
	TxBits    float64        `json:"tx_bits_per_second"`    // their bits, without the outer headers
	Drops     float64        `json:"drops_per_second"`      // packets to or from the peer that were dropped here
}
