package subnet

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/gaissmai/bart"
)

// choice is the subnet that this host should hold, and how to come by it.
type choice struct {
	key  Key
	held *Lease // a lease that is already ours to take over; nil: create it
}

// choose is the allocator, without I/O: our own lease if it fits the config,
// else the previous subnet if it is free, else a random free one.
// previous is the zero Prefix where there is none.
func choose(c Config, leases []Lease, id Identity, previous netip.Prefix) (choice, error) {
	if held := heldBy(c, leases, id, previous); held != nil {
		return choice{key: held.Key, held: held}, nil
	}
	taken := takenBy(leases)
	if previous.IsValid() && c.Check(previous) == nil && !taken.OverlapsPrefix(previous) {
		return choice{key: Key{Subnet: previous}}, nil
	}
	free, ok := randomFree(c, taken)
	if !ok {
		return choice{}, fmt.Errorf("no free subnet: all %d of %s (SubnetMin %s, SubnetMax %s, SubnetLen %d) are taken; widen the network config or remove leases of hosts that are gone",
			c.SubnetCount(), c.Network, c.SubnetMin, c.SubnetMax, c.SubnetLen)
	}
	return choice{key: Key{Subnet: free}}, nil
}

// heldBy finds our lease. One with our NodeID goes before one that is ours by
// its PublicIP alone, the previous subnet before others.
func heldBy(c Config, leases []Lease, id Identity, previous netip.Prefix) *Lease {
	var best *Lease
	bestRank := -1
	for i := range leases {
		l := &leases[i]
		if l.Err != nil || !id.Owns(l.Value) || c.Check(l.Subnet) != nil {
			continue
		}
		rank := 0
		if l.NodeID != "" {
			rank += 2
		}
		if l.Subnet == previous {
			rank++
		}
		if rank > bestRank {
			best, bestRank = l, rank
		}
	}
	return best
}

// takenBy collects every subnet that some key speaks for, also one whose value
// does not parse or that belongs to another backend.
func takenBy(leases []Lease) *bart.Lite {
	taken := new(bart.Lite)
	for _, l := range leases {
		if l.Subnet.IsValid() {
			taken.Insert(l.Subnet)
		}
	}
	return taken
}

// randomFree starts at a random place, so that hosts that start together
// seldom want the same subnet.
func randomFree(c Config, taken *bart.Lite) (netip.Prefix, bool) {
	n := c.SubnetCount()
	start := rand.IntN(n)
	for i := range n {
		if s := c.Subnet((start + i) % n); !taken.OverlapsPrefix(s) {
			return s, true
		}
	}
	return netip.Prefix{}, false
}
