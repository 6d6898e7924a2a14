// Package check judges whether a host can run twill, and what is wrong where it
// runs.
//
// The flow: [Gather] looks at the host, at etcd and at the daemon, and changes
// nothing; what it sees are [Facts]. Each rule is a function of them, without
// any I/O. [Judge] calls all rules. A fact that could not be read is a finding
// of its own, or is left to the daemon, which knows better.
package check

import (
	"cmp"
	"fmt"
	"slices"

	"twill/internal/api"
)

// rules, in the order in which a packet, or a start, meets what they look at.
var rules = []func(*Facts, *report){
	device, capability, forwarding, reversePath, firewall, underlay, port, input,
	service, daemonState, offloads, etcdEndpoints, etcdProblems, leases,
	overlaps, bridges, dockerSettings, subnetFile, peers, paths, clocks,
}

// report collects what the rules find.
type report struct{ findings []api.Finding }

func (r *report) ok(code, format string, args ...any) {
	r.findings = append(r.findings, api.Finding{Code: code, Level: api.LevelOK, Found: fmt.Sprintf(format, args...)})
}

func (r *report) warn(code, remedy, format string, args ...any) {
	r.findings = append(r.findings, api.Finding{Code: code, Level: api.LevelWarn, Found: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (r *report) fail(code, remedy, format string, args ...any) {
	r.findings = append(r.findings, api.Finding{Code: code, Level: api.LevelFail, Found: fmt.Sprintf(format, args...), Remedy: remedy})
}

// Judge returns what all rules find, the worst first.
func Judge(f *Facts) []api.Finding {
	var r report
	for _, rule := range rules {
		rule(f, &r)
	}
	slices.SortStableFunc(r.findings, func(a, b api.Finding) int { return cmp.Compare(rank[a.Level], rank[b.Level]) })
	return r.findings
}

var rank = map[api.Level]int{api.LevelFail: 0, api.LevelWarn: 1, api.LevelOK: 2}
