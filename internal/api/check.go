package api

// Check is what `twill check --json` prints.
type Check struct {
	Schema   int       `json:"schema"`
	Findings []Finding `json:"findings"`
}

// Level says how bad a finding is.
type Level string

// The levels of a Finding.
const (
	LevelOK   Level = "ok"
	LevelWarn Level = "warn" // works, though not as well as it should, or not always
	LevelFail Level = "fail" // does not work
)

// Finding is what one look at the host found.
type Finding struct {
	// Code is stable, for programs: that of a Problem where it is the same fault.
	Code  string `json:"code"`
	Level Level  `json:"level"`
	// Found says in a sentence what is so, Remedy what to do about it; an ok
	// finding has none.
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"`
}

// The codes of findings that are no Problem or reason of a Peer.
const (
	FindingTUN         = "tun"          // /dev/net/tun
	FindingCapability  = "capability"   // of the caller
	FindingForwarding  = "ip-forward"   // net.ipv4.ip_forward
	FindingReverse     = "rp-filter"    // reverse path filters
	FindingFirewall    = "forward-drop" // FORWARD drops the overlay's packets
	FindingPort        = "port"         // the UDP port
	FindingDaemon      = "daemon"       // the daemon of this host
	FindingService     = "service"      // systemd's unit and its order
	FindingOffload     = "offload"      // the kernel's offloads
	FindingOverlap     = "overlap"      // addresses of this host in the network
	FindingBridgeMTU   = "bridge-mtu"
	FindingDaemonJSON  = "daemon-json" // Docker's settings
	FindingPathMTU     = "path-mtu"    // a path takes less than the device's MTU
	FindingPeers       = "peers"       // all peers together
	FindingPeerLease   = "lease-missing"
	FindingLeaseUnused = "lease-conflict" // leases that are not used
	FindingOwnLease    = "own-lease"
	FindingEtcd        = "etcd"
	FindingEtcdVersion = "etcd-version"
)
