package subnet

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// roster is what a view shows of the table, kept from one view to the next: to
// judge 10,000 leases anew for each change of one would take a core at a hundred
// changes a second. A change costs the judging of its place, and the copy of a
// slice of pointers.
type roster struct {
	// places holds the keys that speak for one subnet: mostly one, two where
	// one names an IPv6 subnet too.
	places  map[place]*claim
	touched []*claim // to be judged before the next view, each once
	judge   judge    // that the claims were judged by

	// Of the latest view, both ordered by subnet. Views share them: they are
	// replaced, never changed.
	peers   []*Peer
	skipped []Skipped
}

// place is the subnet that a lease is about, or the name of a key that does not
// parse.
type place struct {
	subnet netip.Prefix
	name   string
}

// claim is who wants a place, and who has it.
type claim struct {
	at      place
	touched bool // stands in the roster's touched
	names   []string
	peer    *Peer // nil: nobody that we use
	skipped []Skipped
}

// judge is all that a judgement depends on but the lease itself.
type judge struct {
	config   Config
	own      string // name of our lease
	subnet   netip.Prefix
	endpoint netip.AddrPort
}

func newRoster() roster {
	return roster{places: map[place]*claim{}}
}

func placeOf(l Lease) place {
	if !l.Subnet.IsValid() {
		return place{name: l.Name}
	}
	return place{subnet: l.Subnet}
}

// touch says that l came, changed or went.
func (r *roster) touch(l Lease) {
	at := placeOf(l)
	c := r.places[at]
	if c == nil {
		c = &claim{at: at}
		r.places[at] = c
	}
	if !slices.Contains(c.names, l.Name) {
		c.names = append(c.names, l.Name)
	}
	r.rejudge(c)
}

func (r *roster) rejudge(c *claim) {
	if !c.touched {
		c.touched = true
		r.touched = append(r.touched, c)
	}
}

// view judges every lease but our own. Order is by subnet.
func (t *table) view(c Config, own Lease, etcd EtcdState) View {
	t.roster.update(t, judge{config: c, own: own.Name, subnet: own.Subnet, endpoint: endpoint(own, c)})
	return View{Revision: t.revision, Own: own, Peers: t.roster.peers, Skipped: t.roster.skipped, Etcd: etcd}
}

// update judges what was touched, and everything where the judge is another.
func (r *roster) update(t *table, j judge) {
	if j != r.judge {
		r.judge = j
		for _, c := range r.places {
			r.rejudge(c)
		}
	}
	if len(r.touched) == 0 {
		return
	}
	var changed []placed
	skips := false
	for _, c := range r.touched {
		c.touched = false
		before := *c
		c.settle(t, j)
		if len(c.names) == 0 {
			delete(r.places, c.at)
		}
		if before.peer != nil || c.peer != nil {
			changed = append(changed, placed{c.at.subnet, c.peer})
		}
		skips = skips || len(before.skipped) > 0 || len(c.skipped) > 0
	}
	r.touched = nil // not kept: after a snapshot it is as long as the table
	r.peers = merge(r.peers, changed)
	if skips {
		r.collectSkipped()
	}
}

// settle gives the place one owner. A lease that is there goes before vanished
// ones, and of two keys for the same subnet the older one keeps it.
func (c *claim) settle(t *table, j judge) {
	names, peers := c.names[:0], []*Peer(nil)
	c.peer, c.skipped = nil, nil
	for _, name := range c.names {
		l, there := t.leases[name]
		v, gone := t.vanished[name]
		if there || gone {
			names = append(names, name)
		}
		if name == j.own {
			continue
		}
		if there {
			p := &Peer{Lease: l, Endpoint: endpoint(l, j.config)}
			if problem := j.problem(p); problem == "" {
				peers = append(peers, p)
			} else {
				c.skip(l, problem)
			}
		}
		if gone {
			p := &Peer{Lease: v.Lease, Endpoint: endpoint(v.Lease, j.config), Vanished: v.at}
			if j.problem(p) == "" {
				peers = append(peers, p)
			}
		}
	}
	c.names = names
	c.choose(peers)
}

func (c *claim) choose(peers []*Peer) {
	slices.SortFunc(peers, func(a, b *Peer) int {
		return cmp.Or(
			a.Vanished.Compare(b.Vanished), // the zero Time, of a lease that is there, first
			cmp.Compare(a.CreateRevision, b.CreateRevision),
			cmp.Compare(a.Name, b.Name),
		)
	})
	for i, p := range peers {
		switch {
		case i == 0:
			c.peer = p
		case p.Vanished.IsZero():
			c.skip(p.Lease, fmt.Sprintf("subnet %s is held by lease %s already", p.Subnet, c.peer.Name))
		}
	}
}

func (c *claim) skip(l Lease, problem string) {
	c.skipped = append(c.skipped, Skipped{Lease: l, Problem: problem})
}

// problem is Problem, and what only shows next to our own lease.
func (j judge) problem(p *Peer) string {
	if problem := Problem(p.Lease, j.config, j.subnet); problem != "" {
		return problem
	}
	if p.Endpoint == j.endpoint {
		return fmt.Sprintf("endpoint %s is our own", p.Endpoint)
	}
	return ""
}

// placed is who has a subnet now; nil: nobody.
type placed struct {
	subnet netip.Prefix
	peer   *Peer
}

// merge returns peers with the changes, in order, as a new slice. All subnets of
// peers have the same length, so that the address alone tells them apart.
func merge(peers []*Peer, changes []placed) []*Peer {
	slices.SortFunc(changes, func(a, b placed) int { return a.subnet.Addr().Compare(b.subnet.Addr()) })
	merged := make([]*Peer, 0, len(peers)+len(changes))
	for _, c := range changes {
		i, found := slices.BinarySearchFunc(peers, c.subnet.Addr(), func(p *Peer, a netip.Addr) int { return p.Subnet.Addr().Compare(a) })
		merged = append(merged, peers[:i]...)
		if c.peer != nil {
			merged = append(merged, c.peer)
		}
		if found {
			i++
		}
		peers = peers[i:]
	}
	return append(merged, peers...)
}

func (r *roster) collectSkipped() {
	r.skipped = nil
	for _, c := range r.places {
		r.skipped = append(r.skipped, c.skipped...)
	}
	slices.SortFunc(r.skipped, func(a, b Skipped) int {
		return cmp.Or(a.Lease.Subnet.Addr().Compare(b.Lease.Subnet.Addr()), cmp.Compare(a.Lease.Name, b.Lease.Name))
	})
}
