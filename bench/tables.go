package main

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"testing"

	"twill/bench/report"
	"twill/tunnel"
)

// tableSizes are the numbers of peers of the result.
var tableSizes = []int{2, 100, 1000, 10_000, 100_000}

// tableTime is how long each measurement takes, as testing's -benchtime.
const tableTime = "300ms"

// timeTables times a lookup and a change of tables of so many peers. The lookups are of
// random addresses that belong to some peer.
func timeTables(sizes []int) (list []report.TableTiming) {
	testing.Init()
	flag.Set("test.benchtime", tableTime) // the only way to tell testing.Benchmark
	own := netip.MustParsePrefix("11.255.255.0/24")
	for _, n := range sizes {
		peers := somePeers(n)
		table := tunnel.NewTable(own, peers)
		addresses := someAddresses(peers)
		lookup := testing.Benchmark(func(b *testing.B) {
			for i := range b.N {
				if table.Lookup(addresses[i%len(addresses)]) == nil {
					b.Fatal("no peer")
				}
			}
		})
		change := testing.Benchmark(func(b *testing.B) {
			for range b.N {
				tunnel.NewTable(own, peers)
			}
		})
		list = append(list, report.TableTiming{
			Peers:    n,
			LookupNs: float64(lookup.T.Nanoseconds()) / float64(lookup.N),
			ChangeMs: change.T.Seconds() * 1e3 / float64(change.N),
		})
	}
	return list
}

// somePeers are n peers with a /24 and an endpoint each.
func somePeers(n int) []*tunnel.Peer {
	peers := make([]*tunnel.Peer, n)
	for i := range peers {
		subnet := netip.AddrFrom4([4]byte{10 + byte(i>>16), byte(i >> 8), byte(i), 0})
		endpoint := netip.AddrFrom4([4]byte{192, byte(i >> 16), byte(i >> 8), byte(i)})
		peers[i] = tunnel.NewPeer(netip.PrefixFrom(subnet, 24), netip.AddrPortFrom(endpoint, 8285))
	}
	return peers
}

// someAddresses are addresses in the peers' subnets; so few that their list
// stays in the processor's cache.
func someAddresses(peers []*tunnel.Peer) []netip.Addr {
	random := rand.New(rand.NewPCG(1, 1))
	addresses := make([]netip.Addr, 1<<12)
	for i := range addresses {
		a := peers[random.IntN(len(peers))].Subnet().Addr().As4()
		a[3] = byte(random.Uint32())
		addresses[i] = netip.AddrFrom4(a)
	}
	return addresses
}
