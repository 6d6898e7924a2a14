package tunnel

import (
	"iter"
	"net/netip"

	"github.com/gaissmai/bart"
)

// A Table says which peer holds which subnet. It never changes: a new state of the leases is a new Table.
type Table struct {
	own       netip.Prefix
	routes    bart.Fast[*Peer] // by subnet; Fast: 8 ns a lookup where bart.Table takes 16
	endpoints map[netip.Addr]*Peer
}

// NewTable returns a table for a host that holds the subnet own. Of peers with the same subnet the last counts. A table
// with neither own subnet nor peers is empty and makes the tunnel drop everything.
func NewTable(own netip.Prefix, peers []*Peer) *Table {
	t := &Table{own: own.Masked(), endpoints: make(map[netip.Addr]*Peer, len(peers))}
	for _, peer := range peers {
		t.routes.Insert(peer.subnet, peer)
		t.endpoints[peer.endpoint.Addr()] = peer
	}
	return t
}

// Own returns the subnet of this host.
func (t *Table) Own() netip.Prefix { return t.own }

// Lookup returns the peer with the longest subnet that contains addr, nil if there is none.
func (t *Table) Lookup(addr netip.Addr) *Peer {
	peer, _ := t.routes.Lookup(addr)
	return peer
}

// peers yields the peers, each once.
func (t *Table) peers() iter.Seq[*Peer] {
	return func(yield func(*Peer) bool) {
		for _, peer := range t.routes.All4() {
			if !yield(peer) {
				return
			}
		}
	}
}

// endpoint returns a peer whose endpoint is at addr on any port, nil if there is none. Hosts behind one NAT share an
// address; then it is one of them.
func (t *Table) endpoint(addr netip.Addr) *Peer { return t.endpoints[addr] }

func (t *Table) empty() bool { return !t.own.IsValid() && len(t.endpoints) == 0 }
