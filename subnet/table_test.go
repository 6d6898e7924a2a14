package subnet

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

const grace = 60 * time.Second

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func after(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

// ownLease is what the tables of these tests are seen from.
func ownLease(t testing.TB) Lease { return leaseAt(t, "10.5.1.0-24", valueOf(us)) }

// peersOf lists a view's peers as "subnet endpoint", with "gone" for vanished ones.
func peersOf(v View) []string {
	var out []string
	for _, p := range v.Peers {
		s := p.Subnet.String() + " " + p.Endpoint.String()
		if !p.Vanished.IsZero() {
			s += " gone"
		}
		out = append(out, s)
	}
	return out
}

func wantPeers(t *testing.T, v View, want ...string) {
	t.Helper()
	if got := peersOf(v); !slices.Equal(got, want) {
		t.Fatalf("peers %q, want %q", got, want)
	}
}

func TestTable(t *testing.T) {
	c := mustConfig(t, `{"Network":"10.5.0.0/16"}`)
	at2 := func(value string) Lease { return leaseAt(t, "10.5.2.0-24", value) }
	theirs, moved := they, they
	moved.PublicIP = netip.MustParseAddr("192.0.2.9")
	other := Identity{NodeID: "id-other", Node: "other", PublicIP: netip.MustParseAddr("192.0.2.3"), Port: 9000}

	const (
		there = "10.5.2.0/24 192.0.2.2:8285"
		gone  = there + " gone"
	)
	for _, tt := range []struct {
		name string
		do   func(*table)
		want []string
	}{
		{"put", func(*table) {}, []string{there}},
		{"own lease is no peer", func(t2 *table) { t2.put(ownLease(t), after(1)) }, []string{there}},
		{"port of the lease", func(t2 *table) { t2.put(at2(valueOf(other)), after(1)) }, []string{"10.5.2.0/24 192.0.2.3:9000"}},
		{"port of the config", func(t2 *table) { t2.put(at2(flannelUDP), after(1)) }, []string{"10.5.2.0/24 192.168.64.3:8285"}},
		{"moved endpoint", func(t2 *table) { t2.put(at2(valueOf(moved)), after(1)) }, []string{"10.5.2.0/24 192.0.2.9:8285"}},
		{"removed, in its grace", func(t2 *table) {
			t2.remove("10.5.2.0-24", 9, after(10))
			t2.expire(after(69))
		}, []string{gone}},
		{"removed, after its grace", func(t2 *table) {
			t2.remove("10.5.2.0-24", 9, after(10))
			t2.expire(after(70))
		}, nil},
		{"grace begins anew after an outage", func(t2 *table) {
			t2.remove("10.5.2.0-24", 9, after(10))
			t2.extendGrace(after(60))
			t2.expire(after(119))
		}, []string{gone}},
		{"a reload does not extend the grace", func(t2 *table) {
			t2.remove("10.5.2.0-24", 9, after(10))
			t2.load(Snapshot{Revision: 10}, after(60))
			t2.expire(after(70))
		}, nil},
		{"removed and back", func(t2 *table) {
			t2.remove("10.5.2.0-24", 9, after(10))
			t2.put(at2(valueOf(theirs)), after(11))
			t2.expire(after(1000))
		}, []string{there}},
		{"removed and taken by another", func(t2 *table) {
			t2.remove("10.5.2.0-24", 9, after(10))
			t2.put(at2(valueOf(other)), after(11))
		}, []string{"10.5.2.0/24 192.0.2.3:9000"}},
		{"removed and taken by another under a dual-stack key", func(t2 *table) {
			t2.remove("10.5.2.0-24", 9, after(10))
			t2.put(leaseAt(t, "10.5.2.0-24&fd00:5:2::-64", valueOf(other)), after(11))
		}, []string{"10.5.2.0/24 192.0.2.3:9000"}},
		{"missing in a reload", func(t2 *table) { t2.load(Snapshot{Revision: 10}, after(10)) }, []string{gone}},
		{"poison keeps the last good lease for the grace", func(t2 *table) {
			t2.put(at2("{"), after(10))
			t2.put(at2("[]"), after(20))
			t2.expire(after(69))
		}, []string{gone}},
		{"poison after the grace", func(t2 *table) {
			t2.put(at2("{"), after(10))
			t2.put(at2("[]"), after(20))
			t2.expire(after(70))
		}, nil},
		{"poison, then good again", func(t2 *table) {
			t2.put(at2("{"), after(10))
			t2.put(at2(valueOf(theirs)), after(11))
			t2.expire(after(1000))
		}, []string{there}},
		{"poison from a reload", func(t2 *table) {
			t2.load(Snapshot{Revision: 10, Leases: []Lease{at2("{")}}, after(10))
		}, []string{gone}},
		{"poison that is removed", func(t2 *table) {
			t2.put(at2("{"), after(10))
			t2.remove("10.5.2.0-24", 9, after(20))
			t2.expire(after(69))
		}, []string{gone}},
		{"another backend's lease has no grace", func(t2 *table) { t2.put(at2(flannelVXLAN), after(10)) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := newTable(grace)
			table.put(at2(valueOf(theirs)), after(0))
			tt.do(table)
			wantPeers(t, table.view(c, ownLease(t), EtcdState{}), tt.want...)
		})
	}
}

func TestTableWithoutGrace(t *testing.T) {
	table := newTable(0)
	table.put(leaseAt(t, "10.5.2.0-24", valueOf(they)), epoch)
	table.remove("10.5.2.0-24", 2, epoch)
	wantPeers(t, table.view(mustConfig(t, tinyConfig), ownLease(t), EtcdState{}))
}

// Two live keys for one subnet: the older one has it, whatever their order.
func TestTableGivesASubnetOneOwner(t *testing.T) {
	older := leaseAt(t, "10.5.2.0-24&fd00:5:2::-64", valueOf(they))
	newer := leaseAt(t, "10.5.2.0-24", flannelUDP)
	older.CreateRevision, newer.CreateRevision = 5, 6
	table := newTable(grace)
	table.put(newer, epoch)
	table.put(older, epoch)
	v := table.view(mustConfig(t, tinyConfig), ownLease(t), EtcdState{})
	wantPeers(t, v, "10.5.2.0/24 192.0.2.2:8285")
	if len(v.Skipped) != 1 || v.Skipped[0].Problem != "subnet 10.5.2.0/24 is held by lease 10.5.2.0-24&fd00:5:2::-64 already" {
		t.Fatalf("skipped %+v, want the newer lease", v.Skipped)
	}
}

func TestTableSkipsOurOwnEndpoint(t *testing.T) {
	table := newTable(grace)
	table.put(leaseAt(t, "10.5.2.0-24", valueOf(us)), epoch)
	v := table.view(mustConfig(t, tinyConfig), ownLease(t), EtcdState{})
	wantPeers(t, v)
	if len(v.Skipped) != 1 || v.Skipped[0].Problem != "endpoint 192.0.2.1:8285 is our own" {
		t.Fatalf("skipped %+v, want the lease of our endpoint", v.Skipped)
	}
}

// op is one thing that happens to a table.
type op struct {
	kind     string // put, remove, load, extend, expire
	at       time.Time
	name     string // remove
	lease    Lease  // put
	snapshot Snapshot
	revision int64
}

func (o op) apply(t *table) {
	switch o.kind {
	case "put":
		t.put(o.lease, o.at)
	case "remove":
		t.remove(o.name, o.revision, o.at)
	case "load":
		t.load(o.snapshot, o.at)
	case "extend":
		t.extendGrace(o.at)
	case "expire":
		t.expire(o.at)
	}
}

// replay tells one key's story from the whole history: what is there, and what
// good lease was there before it, since when and until when.
func replay(history []op, name string) (live *Lease, gone *vanished) {
	for _, o := range history {
		now := live
		switch o.kind {
		case "put":
			if o.lease.Name == name {
				now = &o.lease
			}
		case "remove":
			if o.name == name {
				now = nil
			}
		case "load":
			now = nil
			if i := slices.IndexFunc(o.snapshot.Leases, func(l Lease) bool { return l.Name == name }); i >= 0 {
				now = &o.snapshot.Leases[i]
			}
		case "extend":
			if gone != nil {
				gone.until = o.at.Add(grace)
			}
		case "expire":
			if gone != nil && !o.at.Before(gone.until) {
				gone = nil
			}
		}
		good := func(l *Lease) bool { return l != nil && l.Err == nil }
		if good(live) && !good(now) {
			gone = &vanished{Lease: *live, at: o.at, until: o.at.Add(grace)}
		}
		if good(now) {
			gone = nil
		}
		live = now
	}
	return live, gone
}

func TestTableAgainstTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	c := mustConfig(t, `{"Network":"10.5.0.0/24","SubnetLen":28}`)
	own := Lease{Name: "10.5.0.32-28", Key: Key{Subnet: netip.MustParsePrefix("10.5.0.32/28")}, Value: us.value()}
	for range 40 {
		table := newTable(grace)
		var history []op
		names := map[string]bool{}
		at := epoch
		for revision := range int64(60) {
			at = at.Add(time.Duration(rng.IntN(20)) * time.Second)
			o := randomOp(rng, at, revision+1, names)
			history = append(history, o)
			o.apply(table)
			compareWithTwin(t, table, history, names)
			v := table.view(c, own, EtcdState{})
			checkView(t, v, table, own)
			compareWithNaiveView(t, v, table, c, own)
			if rng.IntN(10) == 0 { // our lease moves to another endpoint: all is judged anew
				own.Port++
			}
		}
	}
}

func randomOp(rng *rand.Rand, at time.Time, revision int64, names map[string]bool) op {
	o := op{at: at, revision: revision, kind: []string{"put", "put", "put", "remove", "remove", "load", "extend", "expire"}[rng.IntN(8)]}
	some := func() Lease {
		l := randomLease(rng)
		l.CreateRevision, l.ModRevision = revision, revision
		names[l.Name] = true
		return l
	}
	switch o.kind {
	case "put":
		o.lease = some()
	case "remove":
		known := slices.Sorted(maps.Keys(names))
		o.name = "10.5.9.0-24"
		if len(known) > 0 {
			o.name = known[rng.IntN(len(known))]
		}
	case "load":
		o.snapshot.Revision = revision
		for _, l := range randomLeases(rng, rng.IntN(12)) {
			l.ModRevision = revision
			names[l.Name] = true
			o.snapshot.Leases = append(o.snapshot.Leases, l)
		}
	}
	return o
}

func compareWithTwin(t *testing.T, table *table, history []op, names map[string]bool) {
	t.Helper()
	live, gone := 0, 0
	var next time.Time
	for name := range names {
		wantLive, wantGone := replay(history, name)
		gotLive, isLive := table.leases[name]
		gotGone, isGone := table.vanished[name]
		if isLive != (wantLive != nil) || isLive && gotLive != *wantLive {
			t.Fatalf("%s: have %+v (%v), want %+v\nafter %+v", name, gotLive, isLive, wantLive, history)
		}
		if isGone != (wantGone != nil) || isGone && gotGone != *wantGone {
			t.Fatalf("%s: vanished %+v (%v), want %+v\nafter %+v", name, gotGone, isGone, wantGone, history)
		}
		if isLive {
			live++
		}
		if isGone {
			gone++
			if next.IsZero() || gotGone.until.Before(next) {
				next = gotGone.until
			}
		}
	}
	if len(table.leases) != live || len(table.vanished) != gone || !table.nextExpiry().Equal(next) {
		t.Fatalf("%d leases, %d vanished, next expiry %v; want %d, %d, %v", len(table.leases), len(table.vanished), table.nextExpiry(), live, gone, next)
	}
}

// checkView holds a view to what its readers rely on.
func checkView(t *testing.T, v View, table *table, own Lease) {
	t.Helper()
	shown := map[string]int{}
	for i, p := range v.Peers {
		switch {
		case p.Subnet.Overlaps(own.Subnet):
			t.Fatalf("peer %+v overlaps our own %s", p, own.Subnet)
		case i > 0 && p.Subnet.Overlaps(v.Peers[i-1].Subnet):
			t.Fatalf("peers %+v and %+v overlap", v.Peers[i-1], p)
		case i > 0 && p.Subnet.Addr().Less(v.Peers[i-1].Subnet.Addr()):
			t.Fatalf("peers %v are not in order", peersOf(v))
		case p.Err != nil || !p.UDP() || !p.Endpoint.IsValid() || p.Endpoint.Port() == 0:
			t.Fatalf("peer %+v cannot be used", p)
		}
		if p.Vanished.IsZero() {
			shown[p.Name]++
		}
	}
	for _, s := range v.Skipped {
		if strings.TrimSpace(s.Problem) == "" {
			t.Fatalf("%+v is skipped without a reason", s)
		}
		shown[s.Lease.Name]++
	}
	for name := range table.leases {
		if name != own.Name && shown[name] != 1 {
			t.Fatalf("lease %s is shown %d times, want once, as peer or as skipped: %+v", name, shown[name], v)
		}
	}
}

// compareWithNaiveView holds a view, made from the one before, to one made of the
// whole table at once.
func compareWithNaiveView(t *testing.T, v View, table *table, c Config, own Lease) {
	t.Helper()
	peers, skipped := naiveView(table, c, own)
	same := func(a *Peer, b Peer) bool { return *a == b }
	if !slices.EqualFunc(v.Peers, peers, same) || !slices.Equal(v.Skipped, skipped) {
		t.Fatalf("have peers %v, skipped %+v\nwant %+v, %+v", peersOf(v), v.Skipped, peers, skipped)
	}
}

// naiveView judges every lease of the table.
func naiveView(t *table, c Config, own Lease) (peers []Peer, skipped []Skipped) {
	var candidates []Peer
	j := judge{config: c, own: own.Name, subnet: own.Subnet, endpoint: endpoint(own, c)}
	for _, l := range t.leases {
		p := Peer{Lease: l, Endpoint: endpoint(l, c)}
		switch problem := j.problem(&p); {
		case l.Name == own.Name:
		case problem != "":
			skipped = append(skipped, Skipped{l, problem})
		default:
			candidates = append(candidates, p)
		}
	}
	for _, gone := range t.vanished {
		p := Peer{Lease: gone.Lease, Endpoint: endpoint(gone.Lease, c), Vanished: gone.at}
		if p.Name != own.Name && j.problem(&p) == "" {
			candidates = append(candidates, p)
		}
	}
	slices.SortFunc(candidates, func(a, b Peer) int {
		return cmp.Or(
			a.Subnet.Addr().Compare(b.Subnet.Addr()),
			a.Vanished.Compare(b.Vanished),
			cmp.Compare(a.CreateRevision, b.CreateRevision),
			cmp.Compare(a.Name, b.Name),
		)
	})
	for _, p := range candidates {
		switch n := len(peers); {
		case n == 0 || peers[n-1].Subnet != p.Subnet:
			peers = append(peers, p)
		case p.Vanished.IsZero():
			skipped = append(skipped, Skipped{p.Lease, fmt.Sprintf("subnet %s is held by lease %s already", p.Subnet, peers[n-1].Name)})
		}
	}
	slices.SortFunc(skipped, func(a, b Skipped) int {
		return cmp.Or(a.Lease.Subnet.Addr().Compare(b.Lease.Subnet.Addr()), cmp.Compare(a.Lease.Name, b.Lease.Name))
	})
	return peers, skipped
}
