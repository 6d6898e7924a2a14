package tunnel

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// A proberPair is two tunnels over fakes that are each other's peer. Control datagrams go from one to the other through a path of the
// test's making; the clock is the test's, and nothing runs but in its calls.
type proberPair struct {
	tb   testing.TB
	a, b *rig
	now  time.Time
	// lost says whether a datagram of size bytes from a, or to it, is lost.
	lost    func(fromA bool, size int) bool
	delay   time.Duration // one way
	sent    int           // control datagrams that a sent
	flights []flight      // in the order of their arrival
}

const proberMTU = 1472

func newProberPair(tb testing.TB) *proberPair {
	p := &proberPair{tb: tb, now: time.Now(), lost: func(bool, int) bool { return false }, delay: 5 * time.Millisecond}
	p.a, p.b = p.newRig(ownSubnet, nearSubnet, nearEndpoint), p.newRig(nearSubnet, ownSubnet, ownEndpoint)
	p.connect(p.a, p.b, ownEndpoint, true)
	p.connect(p.b, p.a, nearEndpoint, false)
	return p
}

var ownEndpoint = netip.MustParseAddrPort("198.18.0.1:8285")

func (p *proberPair) newRig(own, peer netip.Prefix, endpoint netip.AddrPort) *rig {
	r := newRig(p.tb, SpoofStrict)
	r.near = NewTwillPeer(peer, endpoint)
	r.tunnel.SetTable(NewTable(own, []*Peer{r.near}))
	prober := r.tunnel.prober
	prober.interval = time.Second
	prober.setMTU(proberMTU)
	prober.now = func() time.Time { return p.now }
	r.tunnel.lanes[0].inbound.now = prober.now
	return r
}

// connect gives what from sends to to, the delay later.
func (p *proberPair) connect(from, to *rig, source netip.AddrPort, fromA bool) {
	from.conn.control = func(data []byte, _ netip.AddrPort) {
		if fromA {
			p.sent++
		}
		if p.lost(fromA, len(data)) {
			return
		}
		p.flights = append(p.flights, flight{at: p.now.Add(p.delay), to: to, datagram: Datagram{Data: bytes.Clone(data), From: source}})
	}
}

// A flight is a datagram on its way.
type flight struct {
	at       time.Time
	to       *rig
	datagram Datagram
}

// passUntil lets the time pass, in which what is on its way arrives.
func (p *proberPair) passUntil(end time.Time) {
	for len(p.flights) > 0 && !p.flights[0].at.After(end) {
		f := p.flights[0]
		p.flights = p.flights[1:]
		p.now = f.at
		p.deliver(f.to, f.datagram)
	}
	p.now = end
}

// deliver has a tunnel receive a datagram.
func (p *proberPair) deliver(to *rig, d Datagram) {
	if err := to.in(d); err != nil {
		p.tb.Fatal(err)
	}
	prober := to.tunnel.prober
	for len(prober.received) > 0 {
		m := <-prober.received
		prober.receive(&m)
	}
}

// run lets d pass, with packets from a to b all the time if inUse is set.
func (p *proberPair) run(d time.Duration, inUse bool) {
	for end := p.now.Add(d); p.now.Before(end); {
		if inUse {
			p.a.near.tx.add(1, 100)
			if !p.lost(true, 100) {
				p.b.near.rx.add(1, 100)
			}
		}
		p.a.tunnel.prober.tick()
		p.passUntil(p.now.Add(p.a.tunnel.prober.pause()))
	}
}

func (p *proberPair) stats() PathStats { return p.a.near.path.Load().stats(p.now) }

func (p *proberPair) checkLimit(low, high int) {
	p.tb.Helper()
	if limit := int(p.a.near.limit.Load()); limit < low || limit > high {
		p.tb.Errorf("limit %d, want %d to %d", limit, low, high)
	}
}

func TestProbeMeasures(t *testing.T) {
	p := newProberPair(t)
	p.run(60*time.Second, true)
	s := p.stats()
	if s.RTT != 10*time.Millisecond || s.MinRTT != s.RTT || s.LastRTT != s.RTT {
		t.Errorf("round-trip times %v, %v, %v, want 10 ms", s.RTT, s.MinRTT, s.LastRTT)
	}
	if s.ProbesSent < 40 || s.ProbesSent > 80 || s.ProbesAnswered != s.ProbesSent || s.Loss.Lost != 0 || s.Loss.Sent < 30 {
		t.Errorf("%d probes in a minute, %d answered, loss %v", s.ProbesSent, s.ProbesAnswered, s.Loss)
	}
	if s.LossOut.Lost != 0 || s.LossIn.Lost != 0 || s.LossOut.Sent == 0 || s.LossIn.Sent == 0 {
		t.Errorf("loss %v and %v, want none", s.LossOut, s.LossIn)
	}
	if !s.Answers() || s.Unreachable() || s.ClockAhead != 0 {
		t.Errorf("stats %+v", s)
	}
	p.checkLimit(maxPacket, maxPacket)
}

// The loss of each direction is told from the counters of both ends.
func TestProbeTellsDirectionOfLoss(t *testing.T) {
	for _, outbound := range []bool{true, false} {
		p := newProberPair(t)
		r := rand.New(rand.NewPCG(1, 2))
		p.lost = func(fromA bool, size int) bool { return fromA == outbound && r.IntN(4) == 0 }
		p.run(3*time.Minute, true)
		s := p.stats()
		bad, good := s.LossOut, s.LossIn
		if !outbound {
			bad, good = good, bad
		}
		if bad.Lost == 0 || good.Lost != 0 || good.Sent == 0 {
			t.Errorf("loss outbound %v: told %v out, %v in", outbound, s.LossOut, s.LossIn)
		}
	}
}

func TestProbeFindsPeerThatIsAway(t *testing.T) {
	p := newProberPair(t)
	p.run(10*time.Second, true)
	p.lost = func(bool, int) bool { return true }
	p.run(5*time.Second, true)
	if s := p.stats(); !s.Unreachable() || s.Answers() {
		t.Errorf("after 5 s without an answer: %+v", s)
	}
	p.checkLimit(maxPacket, maxPacket)
	p.lost = func(bool, int) bool { return false }
	p.run(3*time.Second, true)
	if s := p.stats(); s.Unreachable() || !s.Answers() {
		t.Errorf("after the peer is back: %+v", s)
	}
}

// Where answers come after the next probe was sent, a silence counts from the first probe that has none, not from ever.
func TestLateAnswersEndSilence(t *testing.T) {
	p := newProberPair(t)
	p.delay = 1200 * time.Millisecond // a round trip takes longer than the interval
	p.run(time.Minute, true)
	if s := p.stats(); s.ProbesAnswered < 30 || s.Unanswered != 0 {
		t.Errorf("%d probes answered, %d not", s.ProbesAnswered, s.Unanswered)
	}
	cut := p.now
	p.lost = func(bool, int) bool { return true }
	p.run(20*time.Second, true)
	const interval = time.Second
	if s := p.stats(); !s.Unreachable() || s.UnansweredSince.Before(cut.Add(-p.delay)) || s.UnansweredSince.After(cut.Add(2*interval)) {
		t.Errorf("cut off 20 s ago: %d probes not answered, silent for %v", s.Unanswered, p.now.Sub(s.UnansweredSince))
	}
}

// A path whose round trips take many intervals is as good as any: its peer answers, nothing is lost, and its limit is found.
func TestProbesOverSlowPath(t *testing.T) {
	p := newProberPair(t)
	p.delay = 3500 * time.Millisecond
	p.lost = func(fromA bool, size int) bool { return fromA && size > 1372 }
	p.run(30*time.Second, true)
	for range 300 {
		p.run(100*time.Millisecond, true)
		if s := p.stats(); !s.Answers() || s.Unanswered > 1 || s.Loss.Lost > 0 {
			t.Fatalf("round trips of 7 s, each answered: %+v", s)
		}
	}
	p.run(3*time.Minute, true)
	if s := p.stats(); s.Loss.Lost != 0 || s.RTT < 6900*time.Millisecond || s.RTT > 7100*time.Millisecond {
		t.Errorf("loss of probes %v, round-trip time %v, want none and 7 s", s.Loss, s.RTT)
	}
	p.checkLimit(1372-mtuPrecision, 1372)
}

// A peer with which nothing is exchanged is probed now and then.
func TestProbeIdlePeer(t *testing.T) {
	p := newProberPair(t)
	p.run(10*time.Minute, false)
	if s := p.stats(); s.ProbesSent < 45 || s.ProbesSent > 90 || s.ProbesAnswered != s.ProbesSent {
		t.Errorf("%d probes in ten minutes, %d answered, want about 60", s.ProbesSent, s.ProbesAnswered)
	}
	before := p.stats().ProbesSent
	p.run(10*time.Second, true)
	if n := p.stats().ProbesSent - before; n < 6 {
		t.Errorf("%d probes in ten seconds of use, want about 10", n)
	}
}

// A path that drops larger packets in silence is found, and that it takes them again.
func TestProbeFindsBlackHole(t *testing.T) {
	p := newProberPair(t)
	p.run(5*time.Second, true)
	p.lost = func(fromA bool, size int) bool { return fromA && size > 1372 }
	p.run(5*time.Second, true)
	p.checkLimit(1372-mtuPrecision, 1372)
	p.lost = func(bool, int) bool { return false }
	p.run(5*time.Minute, true)
	p.checkLimit(1372-mtuPrecision, 1372)
	p.run(7*time.Minute, true)
	p.checkLimit(maxPacket, maxPacket)
}

// The device's MTU may change; the path is then looked at again.
func TestDeviceMTUChanges(t *testing.T) {
	p := newProberPair(t)
	p.lost = func(fromA bool, size int) bool { return fromA && size > 1600 }
	p.run(5*time.Second, true)
	p.checkLimit(maxPacket, maxPacket)
	p.a.tunnel.SetMTU(8972)
	p.run(5*time.Second, true)
	p.checkLimit(1600-mtuPrecision, 1600)
	p.a.tunnel.SetMTU(1400)
	p.run(3*time.Second, true)
	p.checkLimit(maxPacket, maxPacket)
	p.a.tunnel.SetMTU(1700)
	p.run(5*time.Second, true)
	p.checkLimit(1600-mtuPrecision, 1600)
}

// What the kernel has learned is looked into, and believed only where the peer confirms it or cannot be asked.
func TestProbeLooksIntoKernelMTU(t *testing.T) {
	p := newProberPair(t)
	p.run(5*time.Second, true)
	p.a.conn.mtu = 1300
	before := p.sent
	p.run(30*time.Second, true)
	p.checkLimit(maxPacket, maxPacket)
	if n := p.sent - before; n > 200 {
		t.Errorf("%d datagrams sent in 30 s because of a forged MTU", n)
	}
	p.lost = func(fromA bool, size int) bool { return fromA && size > 1400-encapsulation }
	p.a.conn.mtu = 1400
	p.run(3*time.Second, true)
	p.checkLimit(1400-encapsulation, 1400-encapsulation)
	// The kernel forgets: reason to look again before the ten minutes are over.
	p.lost = func(bool, int) bool { return false }
	p.a.conn.mtu = 1500
	p.run(3*time.Second, true)
	p.checkLimit(maxPacket, maxPacket)
}

// What the kernel says before a peer's first reply stays in force until the peer has been asked.
func TestKernelMTUBeforeFirstReply(t *testing.T) {
	p := newProberPair(t)
	p.a.conn.mtu = 1300
	p.lost = func(bool, int) bool { return true }
	p.run(3*time.Second, true)
	p.checkLimit(1300-encapsulation, 1300-encapsulation)

	p.lost = func(fromA bool, size int) bool {
		p.checkLimit(1300-encapsulation, 1300-encapsulation)
		return fromA && size > 1300-encapsulation
	}
	p.run(5*time.Second, true)
	p.checkLimit(1300-encapsulation, 1300-encapsulation)
	if p.stats().ProbesAnswered == 0 {
		t.Fatal("no probe was answered")
	}

	// A forged one is found out by the first reply.
	p = newProberPair(t)
	p.a.conn.mtu = 1300
	p.run(3*time.Second, true)
	p.checkLimit(maxPacket, maxPacket)
}

// A path that grows while its limit is being looked for is looked at once more.
func TestPathGrowsDuringSearch(t *testing.T) {
	p := newProberPair(t)
	p.run(5*time.Second, true)
	p.a.conn.mtu = 1300
	p.lost = func(fromA bool, size int) bool { return fromA && size > 1300-encapsulation }
	prober, path := p.a.tunnel.prober, p.a.near.path.Load()
	for !path.mtu.searching() {
		p.run(time.Millisecond, true)
	}
	p.a.conn.mtu = 1500
	prober.look(p.a.near, p.now, true)
	for path.mtu.again {
		p.run(time.Millisecond, true)
	}
	p.checkLimit(1300-encapsulation-mtuPrecision, 1300-encapsulation)
	p.lost = func(bool, int) bool { return false }
	p.run(3*time.Second, true)
	p.checkLimit(maxPacket, maxPacket)
}

func TestKernelMTUOfOtherPeers(t *testing.T) {
	p := newProberPair(t)
	flannel := NewPeer(farSubnet, farEndpoint)
	p.a.tunnel.SetTable(NewTable(ownSubnet, []*Peer{flannel}))
	use := func(d time.Duration) {
		for end := p.now.Add(d); p.now.Before(end); p.now = p.now.Add(time.Second) {
			flannel.tx.add(1, 100)
			p.a.tunnel.prober.tick()
		}
	}
	p.a.conn.mtu = 1300
	use(5 * time.Second)
	if limit := flannel.limit.Load(); limit != 1300-encapsulation {
		t.Errorf("limit %d, want the kernel's 1300 less 28", limit)
	}
	p.a.conn.mtu = 1500
	use(5 * time.Second)
	if limit := flannel.limit.Load(); limit != maxPacket {
		t.Errorf("limit %d, want none", limit)
	}
	if p.sent != 0 {
		t.Errorf("%d control datagrams to a Flannel peer", p.sent)
	}
}

// Ten thousand peers cost a bounded number of probes, and those in use come first.
func TestProbesAreBounded(t *testing.T) {
	p := newProberPair(t)
	peers := make([]*Peer, 10_000)
	for i, flannel := range manyPeers(len(peers)) {
		peers[i] = NewTwillPeer(flannel.subnet, flannel.endpoint)
	}
	p.a.tunnel.SetTable(NewTable(netip.MustParsePrefix("10.255.0.0/24"), peers))
	p.lost = func(bool, int) bool { return true }
	prober := p.a.tunnel.prober
	inUse := peers[9_990:]
	const seconds = 60
	for range seconds * ticks {
		for _, peer := range inUse {
			peer.tx.add(1, 100)
		}
		prober.tick()
		p.now = p.now.Add(time.Second / ticks)
	}
	if p.sent > seconds*ticks*probesPerTick {
		t.Errorf("%d datagrams in a minute, want at most %d", p.sent, seconds*ticks*probesPerTick)
	}
	for _, peer := range inUse {
		if sent := peer.Stats().Path.ProbesSent; sent < 40 {
			t.Errorf("%d probes in a minute to a peer in use, want about 60", sent)
		}
	}
	for _, peer := range peers {
		if n := peer.Stats().Path.ProbesSent; n == 0 || !slices.Contains(inUse, peer) && n > 4 {
			t.Fatalf("peer %s was probed %d times in a minute, want 1 to 4", peer.subnet, n)
		}
	}
}

// Peers that send control datagrams without pause, as many peers do, do not keep the prober from probing.
func TestProbesGoOnWhileDatagramsArrive(t *testing.T) {
	r := newRig(t, SpoofStrict)
	r.near = NewTwillPeer(nearSubnet, nearEndpoint)
	r.tunnel.SetTable(NewTable(ownSubnet, []*Peer{r.near}))
	prober := r.tunnel.prober
	prober.interval = 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- prober.run(ctx) }()
	arrivals := time.NewTicker(time.Millisecond)
	defer arrivals.Stop()
	for r.near.Stats().Path.ProbesSent < 3 && ctx.Err() == nil {
		<-arrivals.C
		r.near.tx.add(1, 100)
		prober.received <- controlMessage{peer: r.near, controlDatagram: controlDatagram{typ: controlProbe}, at: time.Now()}
	}
	if sent := r.near.Stats().Path.ProbesSent; sent < 3 {
		t.Errorf("%d probes in 20 s, want one a second", sent)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Replies go only to lease holders, are never larger than the probe, and are limited.
func TestRepliesAreLimited(t *testing.T) {
	p := newProberPair(t)
	replies := 0
	p.b.conn.control = func(data []byte, to netip.AddrPort) {
		replies++
		if len(data) != controlLen || to != ownEndpoint {
			t.Errorf("a reply of %d bytes to %s", len(data), to)
		}
	}
	probe := make([]byte, 1000)
	send := func(subnet netip.Prefix, from netip.AddrPort) DropReason {
		(&controlDatagram{typ: controlProbe, subnet: subnet, id: 1}).put(probe)
		before := p.b.rx()
		p.deliver(p.b, Datagram{Data: probe, From: from})
		after := p.b.rx()
		for reason := range DropReasons() {
			if after.Drops[reason] != before.Drops[reason] {
				return reason
			}
		}
		return kept
	}
	for _, tt := range []struct {
		name   string
		subnet netip.Prefix
		from   netip.AddrPort
		want   DropReason
	}{
		{"a peer", ownSubnet, ownEndpoint, kept},
		{"a peer, from another port", ownSubnet, netip.AddrPortFrom(ownEndpoint.Addr(), 1), kept},
		{"a stranger", ownSubnet, farEndpoint, DropUnknownEndpoint},
		{"a peer, with another's subnet", farSubnet, ownEndpoint, DropSpoofedSource},
		{"a peer, with a part of its subnet", netip.PrefixFrom(ownSubnet.Addr(), 25), ownEndpoint, DropSpoofedSource},
	} {
		before := replies
		if got := send(tt.subnet, tt.from); got != tt.want {
			t.Errorf("probe of %s: dropped as %v, want %v", tt.name, got, tt.want)
		}
		if answered := replies > before; answered != (tt.want == kept) {
			t.Errorf("probe of %s answered: %v", tt.name, answered)
		}
	}
	replies = 0
	for range 1000 {
		send(ownSubnet, ownEndpoint)
	}
	if replies > replyBurst || p.b.rx().Drops[DropControlLimit] < 1000-replyBurst {
		t.Errorf("%d of 1000 probes at once were answered, %d counted as dropped", replies, p.b.rx().Drops[DropControlLimit])
	}
}

// A peer cannot make more of its answers than they are.
func TestForgedReplies(t *testing.T) {
	p := newProberPair(t)
	p.b.conn.control = func(data []byte, to netip.AddrPort) {
		c, _ := parseControl(data)
		c.put(data)
		for _, change := range []func(*controlDatagram){
			func(c *controlDatagram) { c.id++ },
			func(c *controlDatagram) { c.hold = 1 << 62 },
			func(c *controlDatagram) {}, // twice
		} {
			forged := c
			change(&forged)
			forged.put(data)
			p.deliver(p.a, Datagram{Data: data, From: nearEndpoint})
		}
	}
	p.run(30*time.Second, true)
	s := p.stats()
	if s.ProbesAnswered > s.ProbesSent || s.RTT < 0 || s.RTT > 5*time.Millisecond {
		t.Errorf("%d of %d probes answered, round-trip time %v", s.ProbesAnswered, s.ProbesSent, s.RTT)
	}
}
