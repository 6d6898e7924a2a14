package daemon

import (
	"encoding/json"
	"io"
	"net/netip"
	"testing"
	"time"

	"twill/internal/api"
	"twill/subnet"
	"twill/tunnel"
)

func TestCensus(t *testing.T) {
	table := crowd(5)
	table.View.Peers[1].Vanished = time.Now()
	table.View.Skipped = make([]subnet.Skipped, 2)
	c := takeCensus(table, time.Now())
	want := map[api.PeerState]int{api.StateSilent: 4, api.StateVanished: 1, api.StateIncompatible: 2}
	if len(c.states) != len(want) || c.probed != 0 || len(c.clocks) != 0 || len(c.away) != 0 {
		t.Errorf("got %+v", c)
	}
	for state, n := range want {
		if c.states[state] != n {
			t.Errorf("%d peers are %s, want %d", c.states[state], state, n)
		}
	}
}

// crowd is a table of n peers that were never heard.
func crowd(n int) *Table {
	t := &Table{}
	for i := range n {
		p := &subnet.Peer{}
		p.Subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		p.Endpoint = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 8285)
		p.Node, p.Proto = "host", 1
		t.View.Peers = append(t.View.Peers, p)
		t.Peers = append(t.Peers, tunnel.NewTwillPeer(p.Subnet, p.Endpoint))
	}
	return t
}

// What status and peers cost in a network of 10,000.
func BenchmarkCensus(b *testing.B) {
	table := crowd(10_000)
	for b.Loop() {
		takeCensus(table, time.Now())
	}
}

func BenchmarkReportPeers(b *testing.B) {
	table := crowd(10_000)
	for b.Loop() {
		if err := json.NewEncoder(io.Discard).Encode(reportPeers(table, 1472, time.Now())); err != nil {
			b.Fatal(err)
		}
	}
}
