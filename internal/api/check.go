package api

// Check is what `twill check --json` prints.
type Check struct {
	Schema   int       `json:"schema"`   // number of the schema: the constant Schema
	Findings []Finding `json:"findings"` // in the order in which they were looked for
}

// Level says how bad a finding is.
type Level string

// The levels of a Finding.
const (
	LevelOK   Level = "ok"   // as it should be
	LevelWarn Level = "warn" // works, though not as well as it should, or not always
	LevelFail Level = "fail" // does not work
)

// Finding is what one look at the host found.
type Finding struct {
	// Code is stable, for programs: that of a Problem where it is the same fault.
	Code  string `json:"code"`
	Level Level  `json:"level"` // one of the levels below
	// Found says in a sentence what is so.
	Found string `json:"found"`
	// Remedy says what to do about it; an ok finding has none.
	Remedy string `json:"remedy,omitempty"`
}

// The codes of findings that are no Problem or reason of a Peer.
const (
	FindingTUN         = "tun"            // /dev/net/tun
	FindingCapability  = "capability"     // of the caller
	FindingForwarding  = "ip-forward"     // net.ipv4.ip_forward
	FindingReverse     = "rp-filter"      // reverse path filters
	FindingFirewall    = "forward-drop"   // FORWARD drops the overlay's packets
	FindingInput       = "input-drop"     // INPUT drops the peers' datagrams
	FindingPort        = "port"           // the UDP port
	FindingDaemon      = "daemon"         // the daemon of this host
	FindingService     = "service"        // systemd's unit and its order
	FindingOffload     = "offload"        // the kernel's offloads
	FindingOverlap     = "overlap"        // addresses of this host in the network
	FindingBridgeMTU   = "bridge-mtu"     // that of the container bridge
	FindingDaemonJSON  = "daemon-json"    // Docker's settings
	FindingPathMTU     = "path-mtu"       // a path takes less than the device's MTU
	FindingPeers       = "peers"          // all peers together
	FindingPeerLease   = "lease-missing"  // a host that ought to have a lease has none
	FindingLeaseUnused = "lease-conflict" // leases that are not used
	FindingOwnLease    = "own-lease"      // this host's lease
	FindingEtcd        = "etcd"           // the lease store
	FindingEtcdVersion = "etcd-version"   // that of its servers
)
