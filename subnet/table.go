package subnet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// table is every lease of the network as far as this host knows, folded from
// snapshots and events. It does no I/O and belongs to one goroutine.
type table struct {
	revision int64
	leases   map[string]Lease
	// vanished leases stay in use for the grace time: many of them at once is
	// how a wiped store or a mass revocation looks, not how hosts die.
	vanished map[string]vanished
	grace    time.Duration
}

type vanished struct {
	Lease
	at    time.Time
	until time.Time
}

func newTable(grace time.Duration) *table {
	return &table{leases: map[string]Lease{}, vanished: map[string]vanished{}, grace: grace}
}

// load replaces all leases by a snapshot's. What the snapshot lacks has
// vanished.
func (t *table) load(s Snapshot, now time.Time) {
	old := t.leases
	t.leases = make(map[string]Lease, len(s.Leases))
	t.revision = s.Revision
	for _, l := range s.Leases {
		prev, had := old[l.Name]
		t.replace(l, prev, had, now)
	}
	for name, l := range old {
		if _, still := t.leases[name]; !still {
			t.vanish(l, now)
		}
	}
}

// extendGrace gives every vanished lease its whole grace time from now on: its
// owner could not take it again while etcd was away.
func (t *table) extendGrace(now time.Time) {
	for name, v := range t.vanished {
		v.until = now.Add(t.grace)
		t.vanished[name] = v
	}
}

func (t *table) put(l Lease, now time.Time) {
	prev, had := t.leases[l.Name]
	t.replace(l, prev, had, now)
	t.revision = max(t.revision, l.ModRevision)
}

// replace takes l's word unless it does not parse: then the last good lease
// under that key counts as vanished.
func (t *table) replace(l, prev Lease, had bool, now time.Time) {
	t.leases[l.Name] = l
	if l.Err == nil {
		delete(t.vanished, l.Name)
	} else if had {
		t.vanish(prev, now)
	}
}

func (t *table) remove(name string, revision int64, now time.Time) {
	if l, ok := t.leases[name]; ok {
		delete(t.leases, name)
		t.vanish(l, now)
	}
	t.revision = max(t.revision, revision)
}

func (t *table) vanish(l Lease, now time.Time) {
	if l.Err == nil && t.grace > 0 {
		t.vanished[l.Name] = vanished{Lease: l, at: now, until: now.Add(t.grace)}
	}
}

// expire drops the vanished leases whose grace time is over.
func (t *table) expire(now time.Time) {
	maps.DeleteFunc(t.vanished, func(_ string, v vanished) bool { return !v.until.After(now) })
}

// nextExpiry is when expire has something to do; the zero Time: never.
func (t *table) nextExpiry() time.Time {
	var next time.Time
	for _, v := range t.vanished {
		if next.IsZero() || v.until.Before(next) {
			next = v.until
		}
	}
	return next
}

// view judges every lease but our own. Order is by subnet.
func (t *table) view(c Config, own Lease, etcd EtcdState) View {
	v := View{Revision: t.revision, Own: own, Etcd: etcd}
	peers := make([]Peer, 0, len(t.leases)+len(t.vanished))
	for name, l := range t.leases {
		if name == own.Name {
			continue
		}
		p := Peer{Lease: l, Endpoint: endpoint(l, c)}
		if problem := p.problem(c, own); problem != "" {
			v.skip(l, problem)
			continue
		}
		peers = append(peers, p)
	}
	for name, l := range t.vanished {
		p := Peer{Lease: l.Lease, Endpoint: endpoint(l.Lease, c), Vanished: l.at}
		if name != own.Name && p.problem(c, own) == "" {
			peers = append(peers, p)
		}
	}
	v.addPeers(peers)
	slices.SortFunc(v.Skipped, func(a, b Skipped) int { return byName(a.Lease, b.Lease) })
	return v
}

// problem is Problem, and what only shows next to our own lease.
func (p Peer) problem(c Config, own Lease) string {
	if problem := Problem(p.Lease, c, own.Subnet); problem != "" {
		return problem
	}
	if p.Endpoint == endpoint(own, c) {
		return fmt.Sprintf("endpoint %s is our own", p.Endpoint)
	}
	return ""
}

// addPeers gives each subnet one owner. Two keys can name the same subnet, with
// and without an IPv6 half: then the older lease keeps it. A lease that is
// there goes before vanished ones.
func (v *View) addPeers(peers []Peer) {
	slices.SortFunc(peers, func(a, b Peer) int {
		return cmp.Or(
			a.Subnet.Addr().Compare(b.Subnet.Addr()),
			a.Vanished.Compare(b.Vanished), // the zero Time, of a lease that is there, first
			cmp.Compare(a.CreateRevision, b.CreateRevision),
			cmp.Compare(a.Name, b.Name),
		)
	})
	v.Peers = peers[:0]
	for _, p := range peers {
		switch n := len(v.Peers); {
		case n == 0 || v.Peers[n-1].Subnet != p.Subnet:
			v.Peers = append(v.Peers, p)
		case p.Vanished.IsZero():
			v.skip(p.Lease, fmt.Sprintf("subnet %s is held by lease %s already", p.Subnet, v.Peers[n-1].Name))
		}
	}
}

func (v *View) skip(l Lease, problem string) {
	v.Skipped = append(v.Skipped, Skipped{Lease: l, Problem: problem})
}

func byName(a, b Lease) int {
	return cmp.Or(a.Subnet.Addr().Compare(b.Subnet.Addr()), cmp.Compare(a.Name, b.Name))
}
