package tunnel

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// naiveLookup is the obvious twin of Lookup: look at every peer, keep the longest subnet, the last of equals.
func naiveLookup(peers []*Peer, addr netip.Addr) *Peer {
	var best *Peer
	for _, p := range peers {
		if p.Subnet().Contains(addr) && (best == nil || p.Subnet().Bits() >= best.Subnet().Bits()) {
			best = p
		}
	}
	return best
}

func TestLookupEqualsNaiveTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	found := 0
	for range 200 {
		var peers []*Peer
		for range r.IntN(60) {
			// Few bits of the address vary, so that subnets nest and repeat.
			peers = append(peers, NewPeer(netip.PrefixFrom(randomAddr(r), 8+r.IntN(25)), nearEndpoint))
		}
		table := NewTable(ownSubnet, peers)
		for range 200 {
			addr := randomAddr(r)
			got, want := table.Lookup(addr), naiveLookup(peers, addr)
			if got != want {
				t.Fatalf("lookup %s: got %v, want %v", addr, got, want)
			}
			if got != nil {
				found++
			}
		}
	}
	if found == 0 {
		t.Fatal("no lookup found a peer")
	}
}

// TestNextEqualsNewTable lets peers come, go and move, in order and sometimes not.
func TestNextEqualsNewTable(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	endpoints := []netip.AddrPort{nearEndpoint, farEndpoint, netip.MustParseAddrPort("198.18.0.9:8285")}
	table, steps, dense := NewTable(netip.Prefix{}, nil), 0, 0
	var peers []*Peer
	for i := range 2000 {
		lengths := []int{20, 24, 20, 32}[:1+i/25%4] // for a while the same
		before, beforePeers := table, slices.Clone(peers)
		if i%100 == 0 {
			peers = nil
		}
		peers = changed(r, peers, lengths, endpoints)
		table = table.Next(ownSubnet, peers)
		if table.ordered {
			steps++
		}
		if table.dense != nil {
			dense++
		}
		compareTables(t, r, table, NewTable(ownSubnet, peers), endpoints)
		compareTables(t, r, before, NewTable(before.own, beforePeers), endpoints) // which shares its memory
	}
	if steps < 500 || dense < 100 || dense > 1500 {
		t.Fatalf("of 2000 tables %d were in order, %d dense", steps, dense)
	}
}

// changed returns peers with a few changes.
func changed(r *rand.Rand, peers []*Peer, lengths []int, endpoints []netip.AddrPort) []*Peer {
	peers = slices.Clone(peers)
	for range 1 + r.IntN(4) {
		switch i := r.IntN(len(peers) + 1); {
		case i == len(peers) || r.IntN(3) == 0:
			peers = append(peers, NewPeer(netip.PrefixFrom(randomAddr(r), lengths[r.IntN(len(lengths))]), endpoints[r.IntN(len(endpoints))]))
		case r.IntN(2) == 0:
			peers = slices.Delete(peers, i, i+1)
		default:
			peers[i] = NewPeer(peers[i].subnet, endpoints[r.IntN(len(endpoints))])
		}
	}
	if r.IntN(10) > 0 {
		slices.SortFunc(peers, compareSubnets)
		peers = slices.CompactFunc(peers, func(a, b *Peer) bool { return a.subnet == b.subnet })
	}
	return peers[:min(len(peers), 40)]
}

func compareTables(t *testing.T, r *rand.Rand, got, want *Table, endpoints []netip.AddrPort) {
	t.Helper()
	if got.own != want.own || got.empty() != want.empty() || got.endpoints.Size() != want.endpoints.Size() {
		t.Fatalf("got own subnet %s and %d endpoints, want %s and %d", got.own, got.endpoints.Size(), want.own, want.endpoints.Size())
	}
	for range 20 {
		if addr := randomAddr(r); got.Lookup(addr) != want.Lookup(addr) {
			t.Fatalf("lookup %s: got %v, want %v", addr, got.Lookup(addr), want.Lookup(addr))
		}
	}
	for _, e := range endpoints {
		if p := got.endpoint(e.Addr()); (p != nil) != (want.endpoint(e.Addr()) != nil) || p != nil && p.endpoint != e {
			t.Fatalf("endpoint %s: got %v, want %v", e, p, want.endpoint(e.Addr()))
		}
	}
}

// TestBurstTable looks up addresses of which many repeat.
func TestBurstTable(t *testing.T) {
	r := rand.New(rand.NewPCG(27, 28))
	table := NewTable(ownSubnet, []*Peer{NewPeer(nearSubnet, nearEndpoint), NewPeer(farSubnet, farEndpoint)})
	burst := burstTable{Table: table}
	for range 1000 {
		addr := []netip.Addr{nearPod, farPod, ownPod, {}}[r.IntN(4)]
		if got, want := burst.Lookup(addr), table.Lookup(addr); got != want {
			t.Fatalf("lookup %s: got %v, want %v", addr, got, want)
		}
	}
}

func randomAddr(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(4)) * 64})
}

func TestTableIsASnapshot(t *testing.T) {
	peers := []*Peer{NewPeer(nearSubnet, nearEndpoint)}
	table := NewTable(ownSubnet, peers)
	peers[0] = NewPeer(farSubnet, farEndpoint)
	if p := table.Lookup(nearPod); p == nil || p.Endpoint() != nearEndpoint {
		t.Errorf("after its slice of peers was changed, the table has %v for %s", p, nearPod)
	}
	if p := table.Lookup(farPod); p != nil {
		t.Errorf("after its slice of peers was changed, the table has %v for %s", p, farPod)
	}
}

func TestTableOwn(t *testing.T) {
	if own := NewTable(netip.MustParsePrefix("10.5.1.77/24"), nil).Own(); own != ownSubnet {
		t.Errorf("own subnet %s, want %s", own, ownSubnet)
	}
}

func TestEmptyTable(t *testing.T) {
	peer := NewPeer(nearSubnet, nearEndpoint)
	for _, tt := range []struct {
		name  string
		table *Table
		want  bool
	}{
		{"nothing", NewTable(netip.Prefix{}, nil), true},
		{"own subnet", NewTable(ownSubnet, nil), false},
		{"peer", NewTable(netip.Prefix{}, []*Peer{peer}), false},
	} {
		if got := tt.table.empty(); got != tt.want {
			t.Errorf("%s: empty %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestPeer(t *testing.T) {
	p := NewPeer(netip.MustParsePrefix("10.5.2.77/24"), netip.MustParseAddrPort("[::ffff:198.18.0.2]:8285"))
	if p.Subnet() != nearSubnet {
		t.Errorf("subnet %s, want %s", p.Subnet(), nearSubnet)
	}
	if p.Endpoint() != nearEndpoint {
		t.Errorf("endpoint %s, want %s", p.Endpoint(), nearEndpoint)
	}
	if s := p.Stats(); s != (PeerStats{}) {
		t.Errorf("stats of a new peer %+v, want zeros", s)
	}
}

func TestParseSpoofCheck(t *testing.T) {
	for _, check := range []SpoofCheck{SpoofStrict, SpoofSource, SpoofOff} {
		if got, err := ParseSpoofCheck(check.String()); got != check || err != nil {
			t.Errorf("parse %q: got %v, %v", check, got, err)
		}
	}
	if SpoofStrict != 0 {
		t.Error("strict is not the zero value")
	}
	for _, name := range []string{"", "Strict", "on", "SpoofCheck(3)"} {
		if got, err := ParseSpoofCheck(name); err == nil {
			t.Errorf("parse %q: got %v, want an error", name, got)
		}
	}
}
