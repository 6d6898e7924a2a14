package daemon

import (
	"net/netip"
	"testing"

	"twill/subnet"
)

func peer(prefix, endpoint string) subnet.Peer {
	return subnet.Peer{
		Lease:    subnet.Lease{Key: subnet.Key{Subnet: netip.MustParsePrefix(prefix)}},
		Endpoint: netip.MustParseAddrPort(endpoint),
	}
}

// A peer goes on counting as long as it stays where it is.
func TestPeerSetKeepsCounters(t *testing.T) {
	stays, moves := peer("10.5.1.0/24", "198.18.0.1:8285"), peer("10.5.2.0/24", "198.18.0.2:8285")
	first, set := peerSet(nil).next(subnet.View{Peers: []subnet.Peer{stays, moves}})
	moved := peer("10.5.2.0/24", "198.18.0.3:8285")
	moved.Proto = 1
	second, set := set.next(subnet.View{Peers: []subnet.Peer{stays, moved}})
	if second[0] != first[0] {
		t.Error("a peer that stayed was made anew and lost its counters")
	}
	if second[1] == first[1] || second[1].Endpoint() != moved.Endpoint {
		t.Errorf("a peer that moved still goes to %s", second[1].Endpoint())
	}
	if _, set = set.next(subnet.View{}); len(set) != 0 {
		t.Errorf("%d peers are kept that no view has", len(set))
	}
}
