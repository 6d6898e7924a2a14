// Package api is what the daemon tells over its control socket, and what the
// command line prints with --json.
//
// Each document begins with the number of the schema that it follows. The number
// grows when a field goes, or changes its name, type, unit or meaning. Fields and
// codes that come do not change it: who reads a document passes over those that
// it does not know, and takes one that is absent for not known.
package api

import (
	"net/netip"
	"time"
)

// Schema is that of the documents of this package.
const Schema = 1

// Paths on the control socket; each answers GET with JSON.
const (
	PeersPath  = "/v1/peers"
	StatusPath = "/v1/status"
	// RuntimePath is for those who look for leaks.
	RuntimePath = "/v1/runtime"
)

// Peers is the answer to PeersPath.
type Peers struct {
	Schema int `json:"schema"`
	// Time is when the counters were read.
	Time time.Time `json:"time"`
	// Peers are those that packets may go to, in order of subnet.
	Peers []Peer `json:"peers"`
	// Unused are the leases that packets cannot go to, all incompatible: they have
	// Name, State, Reason, Remedy, and of the others what could be read.
	Unused []Peer `json:"unused,omitempty"`
}

// PeerState is what the daemon knows of a peer's being alive.
type PeerState string

// The states of a peer.
const (
	StateUp          PeerState = "up"          // has sent packets or replies in the last two minutes
	StateSilent      PeerState = "silent"      // has not; it may have nothing to say
	StateUnreachable PeerState = "unreachable" // does not answer probes
	StateVanished    PeerState = "vanished"    // its lease is gone; it stays for the grace time
	// StateIncompatible is that of a lease which cannot be used, or not by this
	// version of twill.
	StateIncompatible PeerState = "incompatible"
)

// PeerStates are all of them.
var PeerStates = []PeerState{StateUp, StateSilent, StateUnreachable, StateVanished, StateIncompatible}

// Peer is another host, or its lease. Counters run since the peer came to its endpoint;
// bytes are those of the inner packets.
type Peer struct {
	// Name is the name of the lease's key in etcd, and that of an unused lease only.
	Name     string         `json:"name,omitempty"`
	Subnet   netip.Prefix   `json:"subnet"`
	Endpoint netip.AddrPort `json:"endpoint"`
	Node     string         `json:"node"`
	NodeID   string         `json:"node_id"`
	State    PeerState      `json:"state"`
	// Reason is why the State is not up, and Remedy what to do about it. ReasonCode
	// is the reason for programs, of a peer that is unreachable.
	Reason     string    `json:"reason,omitempty"`
	ReasonCode string    `json:"reason_code,omitempty"`
	Remedy     string    `json:"remedy,omitempty"`
	LastSeen   time.Time `json:"last_seen,omitzero"` // absent: never
	// ClaimedFrom is an address that is not the endpoint's, from where packets came
	// that claim the peer's subnet, in the last two minutes. They are dropped.
	ClaimedFrom netip.Addr `json:"claimed_from,omitzero"`
	// RTT and ClockAhead, by how much the peer's clock is ahead, are absent
	// before the first reply to a probe.
	RTT        *RTT     `json:"rtt,omitempty"`
	ClockAhead *float64 `json:"clock_ahead_seconds,omitempty"`
	// Loss is the share of the last 32 probes without an answer, 0 to 1. LossOut
	// and LossIn are of the packets to and from the peer in about the last half
	// minute, by both daemons' counters. Absent: not known.
	Loss    *float64 `json:"loss,omitempty"`
	LossOut *float64 `json:"loss_out,omitempty"`
	LossIn  *float64 `json:"loss_in,omitempty"`
	// PathMTU is the largest inner packet that is sent to the peer in one piece.
	PathMTU        int    `json:"path_mtu"`
	ProbesSent     uint64 `json:"probes_sent"`
	ProbesAnswered uint64 `json:"probes_answered"`
	RxPackets      uint64 `json:"rx_packets"`
	RxBytes        uint64 `json:"rx_bytes"`
	TxPackets      uint64 `json:"tx_packets"`
	TxBytes        uint64 `json:"tx_bytes"`
	Drops          uint64 `json:"drops"`
	// DropReasons divides Drops by reason and lacks reasons that did not occur.
	DropReasons map[string]uint64 `json:"drop_reasons,omitempty"`
}

// RTT is the round-trip time to a peer and back, in seconds.
type RTT struct {
	Smoothed  float64 `json:"smoothed_seconds"` // RFC 6298
	Variation float64 `json:"variation_seconds"`
	Min       float64 `json:"min_seconds"`
	Last      float64 `json:"last_seconds"`
}

// Leases is what `twill leases --json` prints.
type Leases struct {
	Schema int     `json:"schema"`
	Leases []Lease `json:"leases"`
}

// Lease is one lease in etcd.
type Lease struct {
	Subnet   string `json:"subnet"` // the key's name where it does not parse
	PublicIP string `json:"public_ip"`
	Node     string `json:"node"`
	NodeID   string `json:"node_id"`
	Backend  string `json:"backend"`
	Port     uint16 `json:"port"` // 0: the network config's
	// ExpiresIn is in seconds; absent for a reservation, and where etcd does
	// not tell.
	ExpiresIn *int64 `json:"expires_in_seconds,omitempty"`
	Reserved  bool   `json:"reserved"`
	Problem   string `json:"problem"` // why it is not used; "": it is
	Note      string `json:"note"`    // worth knowing all the same
}

// Status is the answer to StatusPath.
type Status struct {
	Schema   int          `json:"schema"`
	Version  string       `json:"version"`
	Node     string       `json:"node"`
	NodeID   string       `json:"node_id"`
	Network  netip.Prefix `json:"network"`
	Subnet   netip.Prefix `json:"subnet"`
	PublicIP netip.Addr   `json:"public_ip"`
	Port     uint16       `json:"port"`
	Device   string       `json:"device"`
	MTU      int          `json:"mtu"` // of the device, bytes
	// Started is when the daemon was ready.
	Started time.Time `json:"started"`
	// LeaseLeft is how long etcd keeps the lease from now on at least, in seconds;
	// absent for a reservation, and where the clock does not tell.
	LeaseLeft *float64 `json:"lease_left_seconds,omitempty"`
	Queues    int      `json:"queues"`
	Peers     int      `json:"peers"`
	// PeerStates divides Peers and Skipped by state and lacks those without any.
	PeerStates map[PeerState]int `json:"peer_states"`
	Skipped    int               `json:"skipped_leases"`
	Etcd       Etcd              `json:"etcd"`
	Problems   []Problem         `json:"problems"` // why the host is degraded; empty: it is not
	Offloads   []Offload         `json:"offloads"`
	Tx         Counters          `json:"tx"`
	Rx         Counters          `json:"rx"`
}

// Problem is one thing that keeps this host from being as it should be.
type Problem struct {
	// Code is one of those below, for programs.
	Code string `json:"code"`
	// Problem says in a sentence what is wrong, Remedy what to do about it.
	Problem string `json:"problem"`
	Remedy  string `json:"remedy"`
}

// The codes of a Problem of a daemon.
const (
	ProblemUnderlay         = "underlay"          // the interface or address to reach peers by is not usable
	ProblemDevice           = "device"            // the TUN device, its address or its route is not as it should be
	ProblemBridge           = "bridge"            // the container bridge is not in this host's subnet
	ProblemEtcdAway         = "etcd-away"         // etcd does not answer
	ProblemEtcdRefuses      = "etcd-refuses"      // etcd is there and does not do what it is asked
	ProblemEtcdSlow         = "etcd-slow"         // etcd takes long for little
	ProblemCached           = "cached"            // lease and peers are those of an earlier run
	ProblemLeaseExpiring    = "lease-expiring"    // nobody renews this host's lease, and it expires soon
	ProblemConfig           = "config"            // the network config in etcd is not what this host runs with
	ProblemSubnetFile       = "subnet-file"       // subnet.env cannot be written
	ProblemPeersUnreachable = "peers-unreachable" // peers do not answer
	ProblemClock            = "clock"             // this host's clock or a peer's is off
	ProblemUnknownEndpoint  = "unknown-endpoint"  // somebody without a lease keeps sending
)

// The codes of a Peer that is unreachable.
const (
	ReasonHost      = "peer-host"        // its host does not answer
	ReasonDaemon    = "peer-daemon"      // its host is there, its daemon is not
	ReasonAddress   = "peer-address"     // it speaks from another address than its lease's
	ReasonOneWay    = "peer-one-way"     // its packets arrive, ours do not
	ReasonDropped   = "peer-dropped"     // something drops the packets without a word
	ReasonForbidden = "peer-forbidden"   // a firewall refuses our packets, and says so
	ReasonRoute     = "peer-route"       // no route leads to it
	ReasonUnknown   = "peer-unreachable" // it does not answer; why is not known yet
)

// Etcd says whether etcd does what it is asked, and since when.
type Etcd struct {
	Reachable bool      `json:"reachable"`
	Refuses   bool      `json:"refuses"` // reachable, but not of use: Error says why
	Since     time.Time `json:"since"`
	Error     string    `json:"error,omitempty"`
	// Latency is how long it took for the last question that it answered, in
	// seconds; absent before the first.
	Latency  float64 `json:"latency_seconds,omitzero"`
	Revision int64   `json:"revision"`
	// Cached is of when lease and peers are, after a start without etcd; absent
	// once they are etcd's.
	Cached time.Time `json:"from_cache_since,omitzero"`
}

// Offload is one of the kernel's offloads: in use, or why it is not.
type Offload struct {
	Name string `json:"name"`
	On   bool   `json:"on"`
	Why  string `json:"why,omitempty"`
}

// Counters count one direction; Drops is by reason and lacks reasons that did
// not occur.
type Counters struct {
	Packets uint64            `json:"packets"`
	Bytes   uint64            `json:"bytes"`
	Drops   map[string]uint64 `json:"drops,omitempty"`
}

// Runtime is the answer to RuntimePath: what the process holds.
type Runtime struct {
	Schema     int `json:"schema"`
	Goroutines int `json:"goroutines"`
	OpenFiles  int `json:"open_files"`
	// LiveHeap is what the last garbage collection found in use, in bytes.
	LiveHeap uint64 `json:"live_heap_bytes"`
}
