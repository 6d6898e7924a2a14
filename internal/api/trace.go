package api

import "net/netip"

// TracePath answers GET with a Trace. Its query says of which packet: to and from
// (addresses; from may be absent: a pod of this host), size (bytes) and df (true
// or false).
const TracePath = "/v1/trace"

// Trace is what would happen to a packet. Nothing was sent.
type Trace struct {
	Schema int         `json:"schema"` // number of the schema: the constant Schema
	From   netip.Addr  `json:"from"`   // source of the packet
	To     netip.Addr  `json:"to"`     // its destination
	Size   int         `json:"size"`   // bytes, headers and all
	DF     bool        `json:"df"`     // it must not be fragmented
	Steps  []TraceStep `json:"steps"`  // in the order in which the packet meets them
	// Passes says that this host would send the packet on, or deliver it here.
	Passes  bool   `json:"passes"`
	Verdict string `json:"verdict"`          // Passes, in a sentence
	Remedy  string `json:"remedy,omitempty"` // what to do where it does not pass
}

// TraceStep is one thing that the packet meets.
type TraceStep struct {
	Step  string `json:"step"`  // what it meets: route, lease, peer and so on
	OK    bool   `json:"ok"`    // it gets past
	Found string `json:"found"` // what is so there, in a sentence
}
