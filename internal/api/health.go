package api

// Health is the answer of /healthz and /readyz where JSON is asked for.
type Health struct {
	Schema int         `json:"schema"` // number of the schema: the constant Schema
	State  HealthState `json:"state"`  // one of the states below
	// Problems are why State is not ok.
	Problems []Problem `json:"problems"`
	// Notices are what is wrong elsewhere and worth knowing here; they leave State as it is.
	Notices []Problem `json:"notices"`
}

// The codes of a Problem that only Health tells of.
const (
	ProblemStarting = "starting" // the daemon does not hold a lease yet
	ProblemHung     = "hung"     // a loop of the daemon no longer turns
	ProblemFenced   = "fenced"   // the subnet is another host's now
)

// ProblemCodes are all codes that a Problem of a daemon may have.
var ProblemCodes = []string{
	ProblemUnderlay, ProblemDevice, ProblemBridge, ProblemEtcdAway, ProblemEtcdRefuses, ProblemEtcdSlow, ProblemCached,
	ProblemLeaseExpiring, ProblemConfig, ProblemSubnetFile, ProblemPeersUnreachable, ProblemClock, ProblemUnknownSender,
	ProblemStarting, ProblemHung, ProblemFenced,
}

// NoticeCodes are those that a notice may have.
var NoticeCodes = []string{ProblemPeersUnreachable, ProblemClock, ProblemUnknownSender}

// HealthState is how a daemon is.
type HealthState string

// The states of a daemon.
const (
	HealthOK       HealthState = "ok"
	HealthDegraded HealthState = "degraded" // does what it is there for, and something is wrong
	HealthFailed   HealthState = "failed"   // does not; over HTTP the status is 503
)
