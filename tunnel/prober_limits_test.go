package tunnel

import (
	"net/netip"
	"testing"
	"time"
)

// limitsRig is a tunnel with so many twill peers, and the count of replies to each, with the clock standing still.
func limitsRig(t *testing.T, n int) (p *proberPair, peers []*Peer, replies map[netip.AddrPort]int) {
	t.Helper()
	p = newProberPair(t)
	for _, flannel := range manyPeers(n) {
		peers = append(peers, NewTwillPeer(flannel.subnet, flannel.endpoint))
	}
	p.b.tunnel.SetTable(NewTable(netip.MustParsePrefix("10.255.0.0/24"), peers))
	replies = map[netip.AddrPort]int{}
	p.b.conn.control = func(data []byte, to netip.AddrPort) { replies[to]++ }
	return p, peers, replies
}

// probe has the tunnel receive n probes of a peer.
func (p *proberPair) probe(peer *Peer, n int) {
	data := make([]byte, controlLen)
	(&controlDatagram{typ: controlProbe, subnet: peer.subnet, id: 1}).put(data)
	for range n {
		p.deliver(p.b, Datagram{Data: data, From: peer.endpoint})
	}
}

// A peer that sends probes without end has its own replies, and each over them counted as its drop; it takes none from the others.
func TestProbesOfOnePeerCostNoOther(t *testing.T) {
	p, peers, replies := limitsRig(t, 8)
	const flood = 2 * allReplyBurst
	p.probe(peers[0], flood)
	if n := replies[peers[0].endpoint]; n != replyBurst {
		t.Errorf("%d replies at once to one peer, want %d", n, replyBurst)
	}
	if n := peers[0].Stats().Drops[DropControlLimit]; n != flood-replyBurst {
		t.Errorf("%d drops counted with the peer, want %d", n, flood-replyBurst)
	}
	for _, peer := range peers[1:] {
		p.probe(peer, replyBurst)
		if n := replies[peer.endpoint]; n != replyBurst || peer.Stats().Drops[DropControlLimit] != 0 {
			t.Errorf("%d replies to %s, want %d", n, peer.subnet, replyBurst)
		}
	}
	p.now = p.now.Add(time.Second)
	p.probe(peers[0], flood)
	if n, want := replies[peers[0].endpoint], replyBurst+int(time.Second/replyInterval); n != want {
		t.Errorf("%d replies to one peer after a second, want %d", n, want)
	}
}

// All peers together get a bounded number of replies.
func TestRepliesInAllAreLimited(t *testing.T) {
	const n = 2 * allReplyBurst / replyBurst
	p, peers, replies := limitsRig(t, n)
	for _, peer := range peers {
		p.probe(peer, replyBurst)
	}
	sum := 0
	for _, n := range replies {
		sum += n
	}
	if dropped := p.b.rx().Drops[DropControlLimit]; sum != allReplyBurst || dropped != n*replyBurst-allReplyBurst {
		t.Errorf("%d replies at once and %d drops, want %d and %d", sum, dropped, allReplyBurst, n*replyBurst-allReplyBurst)
	}
}

// What a newer version says in the flags of a probe is not said back to it.
func TestReplyHasOnlyKnownFlags(t *testing.T) {
	p, peers, _ := limitsRig(t, 1)
	var flags []byte
	p.b.conn.control = func(data []byte, _ netip.AddrPort) { flags = append(flags, data[2]) }
	for _, sent := range []byte{0xff, 0xff &^ controlUncounted} {
		data := make([]byte, controlLen)
		(&controlDatagram{typ: controlProbe, flags: sent, subnet: peers[0].subnet}).put(data)
		p.deliver(p.b, Datagram{Data: data, From: peers[0].endpoint})
	}
	if len(flags) != 2 || flags[0] != controlUncounted || flags[1] != 0 {
		t.Errorf("flags of the replies %v, want %v", flags, []byte{controlUncounted, 0})
	}
}

// Control datagrams are a sign of life as long as the prober takes them; those that it has no room for are dropped, and counted with the
// peer.
func TestControlDatagramsAreCounted(t *testing.T) {
	r := newRig(t, SpoofStrict)
	r.near, r.far = NewTwillPeer(nearSubnet, nearEndpoint), NewTwillPeer(farSubnet, farEndpoint)
	r.tunnel.SetTable(NewTable(ownSubnet, []*Peer{r.near, r.far}))
	began := time.Now()
	now := began
	r.tunnel.lanes[0].inbound.now = func() time.Time { return now }
	receive := func(subnet netip.Prefix, from netip.AddrPort) {
		data := make([]byte, controlLen)
		(&controlDatagram{typ: controlProbe, subnet: subnet}).put(data)
		if err := r.in(Datagram{Data: data, From: from}); err != nil {
			t.Fatal(err)
		}
	}
	for range cap(r.tunnel.prober.received) {
		receive(nearSubnet, nearEndpoint)
	}
	if s := r.near.Stats(); !s.LastSeen.Equal(now) || s.Dropped() != 0 {
		t.Errorf("last seen %v, %d drops, want %v and none", s.LastSeen, s.Dropped(), now)
	}
	now = now.Add(time.Second)
	receive(nearSubnet, nearEndpoint) // no room
	receive(farSubnet, nearEndpoint)  // in another's name
	s := r.near.Stats()
	if !s.LastSeen.Equal(began) || s.Dropped() != 2 || s.Drops[DropControlLimit] != 1 || s.Drops[DropSpoofedSource] != 1 {
		t.Errorf("last seen %v later, drops %v; want 0 s, one over the limit and one spoofed", s.LastSeen.Sub(began), s.Drops)
	}
	rx, far := r.rx(), r.far.Stats()
	if rx.Dropped() != 2 || far.Dropped() != 0 {
		t.Errorf("drops %v in all, %v of the peer whose name was used", rx.Drops, far.Drops)
	}
}
