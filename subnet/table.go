package subnet

import "time"

// table is every lease of the network as far as this host knows, folded from
// snapshots and events. It does no I/O and belongs to one goroutine.
type table struct {
	revision int64
	leases   map[string]Lease
	// vanished leases stay in use for the grace time: many of them at once is
	// how a wiped store or a mass revocation looks, not how hosts die.
	vanished map[string]vanished
	grace    time.Duration
	roster   roster
}

type vanished struct {
	Lease
	at    time.Time
	until time.Time
}

func newTable(grace time.Duration) *table {
	return &table{leases: map[string]Lease{}, vanished: map[string]vanished{}, grace: grace, roster: newRoster()}
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
			t.roster.touch(l)
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
	if _, gone := t.vanished[l.Name]; gone || !had || l != prev {
		t.roster.touch(l)
	}
	if l.Err == nil {
		delete(t.vanished, l.Name)
	} else if had {
		t.vanish(prev, now)
	}
}

func (t *table) remove(name string, revision int64, now time.Time) {
	if l, ok := t.leases[name]; ok {
		delete(t.leases, name)
		t.roster.touch(l)
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
	for name, v := range t.vanished {
		if !v.until.After(now) {
			delete(t.vanished, name)
			t.roster.touch(v.Lease)
		}
	}
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
