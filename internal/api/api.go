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
	Schema int `json:"schema"` // number of the schema: the constant Schema
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
	Name     string         `json:"name,omitempty"`   // of the lease's key in etcd; of an unused lease only
	Subnet   netip.Prefix   `json:"subnet"`           // that the peer holds; "" where the lease names none
	Endpoint netip.AddrPort `json:"endpoint"`         // address and UDP port that packets go to; "" where the lease names none
	Node     string         `json:"node"`             // host name; "" of a host that runs Flannel
	NodeID   string         `json:"node_id"`          // that stays with the host; "" of a host that runs Flannel
	State    PeerState      `json:"state"`            // one of the states below
	Reason   string         `json:"reason,omitempty"` // why State is not up
	Remedy   string         `json:"remedy,omitempty"` // what to do about it
	// ReasonCode is Reason for programs, of a peer that is unreachable.
	ReasonCode string    `json:"reason_code,omitempty"`
	LastSeen   time.Time `json:"last_seen,omitzero"` // when the last packet or answer was accepted from the peer; absent: never
	// ClaimedFrom is an address that is not the endpoint's, from where packets came
	// that claim the peer's subnet, in the last two minutes. They are dropped.
	ClaimedFrom netip.Addr `json:"claimed_from,omitzero"`
	// RTT is absent before the first answer to a probe.
	RTT *RTT `json:"rtt,omitempty"`
	// ClockAhead is by how much the peer's clock is ahead of ours, in seconds;
	// absent before the first answer.
	ClockAhead *float64 `json:"clock_ahead_seconds,omitempty"`
	// Loss is the share of the last 32 probes without an answer, 0 to 1; absent: not known.
	Loss *float64 `json:"loss,omitempty"`
	// LossOut is the share of packets to the peer that were lost in about the last
	// half minute, 0 to 1, by both daemons' counters; absent: not known.
	LossOut *float64 `json:"loss_out,omitempty"`
	// LossIn is the same of packets from the peer.
	LossIn         *float64 `json:"loss_in,omitempty"`
	PathMTU        int      `json:"path_mtu"`        // largest inner packet that is sent to the peer in one piece, bytes
	ProbesSent     uint64   `json:"probes_sent"`     // probes to the peer
	ProbesAnswered uint64   `json:"probes_answered"` // those that it answered
	RxPackets      uint64   `json:"rx_packets"`      // packets accepted from the peer
	RxBytes        uint64   `json:"rx_bytes"`        // their bytes
	TxPackets      uint64   `json:"tx_packets"`      // packets sent to the peer
	TxBytes        uint64   `json:"tx_bytes"`        // their bytes
	Drops          uint64   `json:"drops"`           // packets to or from the peer that were dropped here
	// DropReasons divides Drops by reason and lacks reasons that did not occur.
	DropReasons map[string]uint64 `json:"drop_reasons,omitempty"`
}

// RTT is the round-trip time to a peer and back, in seconds.
type RTT struct {
	Smoothed  float64 `json:"smoothed_seconds"`  // as RFC 6298 smooths it
	Variation float64 `json:"variation_seconds"` // its mean deviation, RFC 6298
	Min       float64 `json:"min_seconds"`       // the shortest so far
	Last      float64 `json:"last_seconds"`      // that of the last answer
}

// Leases is what `twill leases --json` prints.
type Leases struct {
	Schema int     `json:"schema"` // number of the schema: the constant Schema
	Leases []Lease `json:"leases"` // of all hosts, in order of their keys
}

// Lease is one lease in etcd.
type Lease struct {
	Subnet   string `json:"subnet"`    // the key's name where it does not parse
	PublicIP string `json:"public_ip"` // address of the host on the underlay
	Node     string `json:"node"`      // host name; "" of a host that runs Flannel
	NodeID   string `json:"node_id"`   // that stays with the host; "" of a host that runs Flannel
	Backend  string `json:"backend"`   // how packets go to it: udp, or another of Flannel's that twill does not use
	Port     uint16 `json:"port"`      // UDP port; 0: the network config's
	// ExpiresIn is in seconds; absent for a reservation, and where etcd does
	// not tell.
	ExpiresIn *int64 `json:"expires_in_seconds,omitempty"`
	Reserved  bool   `json:"reserved"`         // has no time to live
	Problem   string `json:"problem"`          // why it is not used; "": it is
	Note      string `json:"note"`             // worth knowing all the same
	Remedy    string `json:"remedy,omitempty"` // what to do about Problem or Note; absent: nothing
}

// Status is the answer to StatusPath.
type Status struct {
	Schema   int          `json:"schema"`    // number of the schema: the constant Schema
	Version  string       `json:"version"`   // of twill
	Started  time.Time    `json:"started"`   // when the daemon was ready
	Node     string       `json:"node"`      // host name
	NodeID   string       `json:"node_id"`   // by which the host finds its lease again
	Network  netip.Prefix `json:"network"`   // the whole overlay
	Subnet   netip.Prefix `json:"subnet"`    // this host's part of it
	PublicIP netip.Addr   `json:"public_ip"` // that peers send to
	Port     uint16       `json:"port"`      // UDP port that peers send to
	// LeaseLeft is how long etcd keeps the lease from now on at least, in seconds;
	// absent for a reservation, and where the clock does not tell.
	LeaseLeft *float64 `json:"lease_left_seconds,omitempty"`
	Device    string   `json:"device"` // name of the TUN device
	MTU       int      `json:"mtu"`    // of the device, bytes
	Queues    int      `json:"queues"` // of the device, each with a socket
	Peers     int      `json:"peers"`  // hosts that packets may go to
	// PeerStates divides Peers and Skipped by state and lacks states that no peer is in.
	PeerStates map[PeerState]int `json:"peer_states"`
	Skipped    int               `json:"skipped_leases"` // leases that are not used
	Etcd       Etcd              `json:"etcd"`           // the lease store
	Problems   []Problem         `json:"problems"`       // why the host is degraded; empty: it is healthy
	Notices    []Problem         `json:"notices"`        // what is wrong elsewhere, as this host sees it; it may be healthy all the same
	Offloads   []Offload         `json:"offloads"`       // of the kernel
	Tx         Counters          `json:"tx"`             // from pods to peers
	Rx         Counters          `json:"rx"`             // from peers to pods
}

// Problem is one thing that is not as it should be: of this host, or, as a notice, of others.
type Problem struct {
	Code    string `json:"code"`    // one of those below, for programs
	Problem string `json:"problem"` // what is wrong, in a sentence
	Remedy  string `json:"remedy"`  // what to do about it
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
	ProblemPeersUnreachable = "peers-unreachable" // half or more of the peers that are probed do not answer; as a notice: fewer
	ProblemClock            = "clock"             // this host's clock is off, or one of so few that it may be; as a notice: a peer's
	ProblemUnknownSender    = "unknown-sender"    // a notice: somebody without a lease keeps sending
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
	ReasonNoBuffers = "peer-no-buffers"  // this host has no room for what is sent to it
	ReasonUnknown   = "peer-unreachable" // it does not answer; why is not known yet
)

// Etcd says whether etcd does what it is asked, and since when.
type Etcd struct {
	Reachable bool      `json:"reachable"`       // it answers
	Refuses   bool      `json:"refuses"`         // reachable, but not of use: Error says why
	Since     time.Time `json:"since"`           // when that began
	Error     string    `json:"error,omitempty"` // why it is of no use; absent: it is
	// Latency is how long it took for the last question that it answered, in
	// seconds; absent before the first.
	Latency  float64 `json:"latency_seconds,omitzero"`
	Revision int64   `json:"revision"` // of etcd, which the table is of
	// Cached is of when lease and peers are, after a start without etcd; absent
	// once they are etcd's.
	Cached time.Time `json:"from_cache_since,omitzero"`
}

// Offload is one of the kernel's offloads: in use, or why it is not.
type Offload struct {
	Name string `json:"name"`          // as --offload takes it
	On   bool   `json:"on"`            // in use
	Why  string `json:"why,omitempty"` // it is not
}

// Counters count one direction since the daemon's start.
type Counters struct {
	Packets uint64 `json:"packets"` // packets that went through
	Bytes   uint64 `json:"bytes"`   // their bytes, without the outer headers
	// Drops counts packets by the reason for which they were dropped, and lacks
	// reasons that did not occur.
	Drops map[string]uint64 `json:"drops,omitempty"`
}

// Runtime is the answer to RuntimePath: what the process holds.
type Runtime struct {
	Schema     int `json:"schema"`     // number of the schema: the constant Schema
	Goroutines int `json:"goroutines"` // threads of the program's own
	OpenFiles  int `json:"open_files"` // file descriptors; -1: not known
	// LiveHeap is what the last garbage collection found in use, in bytes.
	LiveHeap uint64 `json:"live_heap_bytes"`
}
