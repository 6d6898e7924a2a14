package daemon

import (
	"slices"
	"time"

	"twill/subnet"
	"twill/tunnel"
)

// Table is one view of the leases as the tunnel uses it. It never changes.
type Table struct {
	View   subnet.View
	Peers  []*tunnel.Peer // of View.Peers, in their order
	Tunnel *tunnel.Table  // of Peers
	// Changed is when Peers last became other ones.
	Changed time.Time
}

// Next makes the table of a new view; the first one of a nil Table. A peer that
// stays where it is remains the same, and so goes on counting.
func (t *Table) Next(v subnet.View) *Table {
	peers, changed := t.nextPeers(v.Peers), time.Now()
	if t == nil {
		if !v.Cached.IsZero() {
			changed = v.Cached
		}
		return &Table{View: v, Peers: peers, Tunnel: (*tunnel.Table)(nil).Next(v.Own.Subnet, peers), Changed: changed}
	}
	if slices.Equal(peers, t.Peers) {
		changed = t.Changed
	}
	return &Table{View: v, Peers: peers, Tunnel: t.Tunnel.Next(v.Own.Subnet, peers), Changed: changed}
}

// nextPeers walks the peers before and those of the new view side by side, as
// both are in order of subnet.
func (t *Table) nextPeers(view []*subnet.Peer) []*tunnel.Peer {
	var before []*subnet.Peer
	if t != nil {
		before = t.View.Peers
	}
	peers := make([]*tunnel.Peer, 0, len(view))
	i := 0 // in before
	for _, p := range view {
		for i < len(before) && before[i].Subnet.Addr().Less(p.Subnet.Addr()) {
			i++
		}
		if i < len(before) && sameTarget(before[i], p) {
			peers = append(peers, t.Peers[i])
		} else {
			peers = append(peers, newPeer(p))
		}
	}
	return peers
}

// sameTarget reports whether packets go to both in the same way.
func sameTarget(a, b *subnet.Peer) bool {
	return a == b || a.Subnet == b.Subnet && a.Endpoint == b.Endpoint && runsTwill(a) == runsTwill(b)
}

func runsTwill(p *subnet.Peer) bool { return p.Proto > 0 }

func newPeer(p *subnet.Peer) *tunnel.Peer {
	if runsTwill(p) {
		return tunnel.NewTwillPeer(p.Subnet, p.Endpoint)
	}
	return tunnel.NewPeer(p.Subnet, p.Endpoint)
}
