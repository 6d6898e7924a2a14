package api

import "net/netip"

// TracePath answers GET with a Trace. Its query says of which packet: to and from
// (addresses; from may be absent: a pod of this host), size (bytes) and df (true
// or false).
const TracePath = "/v1/trace"

// Trace is what would happen to a packet. Nothing was sent.
type Trace struct {
	Schema int         `json:"schema"`
	From   netip.Addr  `json:"from"`
	To     netip.Addr  `json:"to"`
	Size   int         `json:"size"` // bytes, headers and all
	DF     bool        `json:"df"`
	Steps  []TraceStep `json:"steps"` // in the order in which the packet meets them
	// Passes says that this host would send the packet on, or deliver it here.
	Passes bool `json:"passes"`
	// Verdict says it in a sentence, Remedy what to do where it does not pass.
	Verdict string `json:"verdict"`
	Remedy  string `json:"remedy,omitempty"`
}

// TraceStep is one thing that the packet meets.
type TraceStep struct {
	Step  string `json:"step"`
	OK    bool   `json:"ok"`
	Found string `json:"found"`
}
