package main

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"twill/bench/report"
	"twill/tunnel"
)

// tableSizes are the numbers of peers of the result.
var tableSizes = []int{2, 100, 1000, 10_000, 100_000}

// tableTime is how long each measurement takes, as testing's -benchtime.
const tableTime = "300ms"

// timeTables times a lookup in tables of so many peers, of random addresses that belong to some peer, and a change.
func timeTables(sizes []int) (list []report.TableTiming) {
	testing.Init()
	flag.Set("test.benchtime", tableTime) // the only way to tell testing.Benchmark
	for _, n := range sizes {
		peers := somePeers(n)
		table := tunnel.NewTable(ownSubnet, peers)
		addresses := someAddresses(peers)
		lookup := testing.Benchmark(func(b *testing.B) {
			for i := range b.N {
				if table.Lookup(addresses[i%len(addresses)]) == nil {
					b.Fatal("no peer")
				}
			}
		})
		change := testing.Benchmark(func(b *testing.B) { changeTable(b, table, peers, addresses) })
		list = append(list, report.TableTiming{
			Peers:    n,
			LookupNs: float64(lookup.T.Nanoseconds()) / float64(lookup.N),
			ChangeMs: change.T.Seconds() * 1e3 / float64(change.N),
		})
	}
	return list
}

// ownSubnet is that of the host whose tables are timed.
var ownSubnet = netip.MustParsePrefix("11.255.255.0/24")

// changeTable lets one peer after the other move while every processor looks up addresses, as under full load.
func changeTable(b *testing.B, table *tunnel.Table, peers []*tunnel.Peer, addresses []netip.Addr) {
	var inForce atomic.Pointer[tunnel.Table]
	inForce.Store(table)
	var done atomic.Bool
	var loads sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		loads.Go(func() {
			for i := 0; !done.Load(); i++ {
				inForce.Load().Lookup(addresses[i%len(addresses)])
			}
		})
	}
	peers = slices.Clone(peers)
	for i := range b.N {
		p := peers[i%len(peers)]
		moved := netip.AddrPortFrom(p.Endpoint().Addr(), p.Endpoint().Port()^1)
		peers[i%len(peers)] = tunnel.NewPeer(p.Subnet(), moved)
		inForce.Store(inForce.Load().Next(ownSubnet, peers))
	}
	done.Store(true)
	loads.Wait()
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
