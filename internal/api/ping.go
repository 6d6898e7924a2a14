package api

import "net/netip"

// PingPath answers GET with a Ping: one probe. Its query says to whom (to: a
// node's name or id, a subnet, or an address in one), of how many bytes (size)
// and for how long the answer is waited for (wait, as Go writes durations).
const PingPath = "/v1/ping"

// Ping is the fate of one probe. Of a peer that is not there, or answers no
// probes, the HTTP status and its text tell.
type Ping struct {
	Schema int  `json:"schema"` // number of the schema: the constant Schema
	Peer   Peer `json:"peer"`   // that was asked
	Size   int  `json:"size"`   // of the probe, bytes
	// RTT is in seconds; absent: there was no answer.
	RTT *float64 `json:"rtt_seconds,omitempty"`
	// Error says why the probe could not be sent; then no answer was waited for.
	Error string `json:"error,omitempty"`
}

// PingReport is what `twill ping --json` prints.
type PingReport struct {
	Schema   int            `json:"schema"`   // number of the schema: the constant Schema
	To       string         `json:"to"`       // as it was asked for
	Node     string         `json:"node"`     // the peer's host name
	NodeID   string         `json:"node_id"`  // that stays with the peer
	Subnet   netip.Prefix   `json:"subnet"`   // that the peer holds
	Endpoint netip.AddrPort `json:"endpoint"` // that the probes went to
	Size     int            `json:"size"`     // of a probe, bytes
	Sent     int            `json:"sent"`     // probes
	Received int            `json:"received"` // answers
	Loss     float64        `json:"loss"`     // share of the probes without an answer, 0 to 1
	// RTT is absent where nothing was received.
	RTT    *PingTimes  `json:"rtt,omitempty"`
	Probes []PingProbe `json:"probes"` // in the order in which they were sent
	// Reason says why answers are missing, as far as that is known.
	Reason string `json:"reason,omitempty"`
	Remedy string `json:"remedy,omitempty"` // what to do about it
}

// PingTimes sums up round-trip times, in seconds; MDev is their standard
// deviation, as ping(8) calls it.
type PingTimes struct {
	Min  float64 `json:"min_seconds"`  // the shortest
	Avg  float64 `json:"avg_seconds"`  // their mean
	Max  float64 `json:"max_seconds"`  // the longest
	MDev float64 `json:"mdev_seconds"` // their standard deviation
}

// PingProbe is one probe of a PingReport.
type PingProbe struct {
	Seq   int      `json:"seq"`                   // from 1
	RTT   *float64 `json:"rtt_seconds,omitempty"` // round trip; absent: no answer
	Error string   `json:"error,omitempty"`       // why it could not be sent
}
