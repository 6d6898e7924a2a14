package daemon

import (
	"net/netip"
	"testing"

	"twill/subnet"
)

func peer(prefix, endpoint string) *subnet.Peer {
	return &subnet.Peer{
		Lease:    subnet.Lease{Key: subnet.Key{Subnet: netip.MustParsePrefix(prefix)}},
		Endpoint: netip.MustParseAddrPort(endpoint),
	}
}

// A peer goes on counting as long as it stays where it is, whoever comes and goes
// beside it.
func TestPeersKeepCounters(t *testing.T) {
	goes, stays, moves := peer("10.5.1.0/24", "198.18.0.1:8285"), peer("10.5.2.0/24", "198.18.0.2:8285"), peer("10.5.4.0/24", "198.18.0.4:8285")
	var none *Table
	before := none.Next(subnet.View{Peers: []*subnet.Peer{goes, stays, moves}})

	rewritten := *stays
	rewritten.ModRevision++
	moved := peer("10.5.4.0/24", "198.18.0.5:8285")
	moved.Proto = 1
	comes := peer("10.5.3.0/24", "198.18.0.3:8285")
	after := before.Next(subnet.View{Peers: []*subnet.Peer{&rewritten, comes, moved}}).Peers
	if after[0] != before.Peers[1] {
		t.Error("a peer that stayed was made anew and lost its counters")
	}
	if after[1].Endpoint() != comes.Endpoint {
		t.Errorf("a peer that came has the endpoint %s", after[1].Endpoint())
	}
	if after[2] == before.Peers[2] || after[2].Endpoint() != moved.Endpoint {
		t.Errorf("a peer that moved still goes to %s", after[2].Endpoint())
	}
}
