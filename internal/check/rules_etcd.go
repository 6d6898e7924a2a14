package check

import (
	"fmt"
	"strings"
	"time"

	"twill/internal/api"
	"twill/subnet"
)

const (
	// slowEtcd is far above what etcd needs for a read, and far below the timeout
	// of the daemon's requests.
	slowEtcd = 500 * time.Millisecond
	// shortLease is a tenth of a lease's life: the daemon renews long before.
	shortLease = subnet.DefaultTTL / 10
)

func etcdEndpoints(f *Facts, r *report) {
	for _, e := range f.Etcd {
		switch {
		case e.Err != nil:
			r.warn(api.FindingEtcd, fmt.Sprintf("look whether etcd runs there and whether this host reaches it: curl %s/health", e.Endpoint), "etcd at %s: %v", e.Endpoint, e.Err)
		case e.RoundTrip > slowEtcd:
			r.warn(api.ProblemEtcdSlow, "look at the load and the disk of its host (`etcdctl endpoint status -w table`, `etcdctl check perf`) and at the way there",
				"etcd at %s takes %v for an answer", e.Endpoint, e.RoundTrip.Round(time.Millisecond))
		case len(e.Errors) > 0:
			r.warn(api.FindingEtcd, "etcdctl alarm list; etcdctl endpoint health --cluster", "etcd at %s says: %s", e.Endpoint, strings.Join(e.Errors, ", "))
		default:
			r.ok(api.FindingEtcd, "etcd %s at %s answers in %v", e.Version, e.Endpoint, e.RoundTrip.Round(100*time.Microsecond))
		}
		if e.Err == nil && strings.HasPrefix(e.Version, "3.") && len(e.Version) > 3 && e.Version[2] < '4' && e.Version[3] == '.' {
			r.warn(api.FindingEtcdVersion, "upgrade etcd to 3.4 or later", "etcd at %s is %s", e.Endpoint, e.Version)
		}
	}
}

// etcdProblems is about the whole of etcd: what the daemon says of it too.
func etcdProblems(f *Facts, r *report) {
	switch {
	case f.EtcdErr != nil && !f.running():
		r.fail(api.ProblemEtcdAway, "look whether etcd runs and whether this host reaches it; see --etcd-endpoints", "%v", f.EtcdErr)
	case f.EtcdErr != nil:
		r.warn(api.FindingEtcd, "look whether etcd runs; the daemon forwards with its last table", "%v", f.EtcdErr)
	case f.RoundTrip > slowEtcd:
		r.warn(api.ProblemEtcdSlow, "look at the load and the disk of etcd's hosts, and at the way there", "reading the leases from etcd took %v", f.RoundTrip.Round(time.Millisecond))
	}
}

// quoted is s as one word of a shell: whoever writes to etcd chooses the names of keys, and somebody may paste them.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// leases compares those in etcd with what the daemon holds.
func leases(f *Facts, r *report) {
	if f.EtcdErr != nil {
		return
	}
	problems := f.Snapshot.Problems(f.Network)
	for _, l := range f.Snapshot.Leases {
		if problem := problems[l.Name]; problem != "" && l.UDP() {
			r.warn(api.FindingLeaseUnused, fmt.Sprintf("%s: etcdctl del %s", subnet.Remedy(l), quoted(f.Settings.Etcd.Prefix+"/subnets/"+l.Name)),
				"lease %s is not used: %s", l.Name, problem)
		}
	}
	if !f.running() {
		return
	}
	s := f.Status
	l, ok := f.held(s.Subnet)
	switch {
	case !ok:
		r.fail(api.FindingOwnLease, "systemctl restart twill; look into `journalctl -u twill` why it does not write it", "the lease of %s, this host's subnet, is not in etcd: other hosts send nothing here", s.Subnet)
	case l.NodeID != s.NodeID && l.NodeID != "":
		r.fail(api.FindingLeaseUnused, "systemctl restart twill: it takes another subnet", "the lease of %s, this host's subnet, belongs to %s at %s", s.Subnet, l.Node, l.PublicIP)
	case l.PublicIP != s.PublicIP:
		r.fail(api.FindingOwnLease, "systemctl restart twill", "the lease of %s says %s, the daemon says %s", s.Subnet, l.PublicIP, s.PublicIP)
	case f.OwnTTL != 0 && f.OwnTTL < shortLease:
		r.warn(api.FindingOwnLease, "look into `journalctl -u twill` why it is not renewed", "the lease of %s expires in %v", s.Subnet, f.OwnTTL.Round(time.Second))
	default:
		r.ok(api.FindingOwnLease, "the lease of %s is in etcd", s.Subnet)
	}
}
