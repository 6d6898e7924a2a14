package tunnel

import (
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// A crowd is a tunnel over fakes with many twill peers, which all answer its probes as long as their paths take them. The clock is the
// test's, and nothing runs but in its calls.
type crowd struct {
	*rig
	tb      testing.TB
	now     time.Time
	peers   []*Peer
	at      map[netip.AddrPort]*Peer
	pathMTU int // of all paths
	waiting []Datagram
	sent    int // control datagrams
}

func newCrowd(tb testing.TB, n int) *crowd {
	c := &crowd{rig: newRig(tb, SpoofStrict), tb: tb, now: time.Now(), pathMTU: proberMTU, at: map[netip.AddrPort]*Peer{}}
	for _, flannel := range manyPeers(n) {
		peer := NewTwillPeer(flannel.subnet, flannel.endpoint)
		c.peers = append(c.peers, peer)
		c.at[peer.endpoint] = peer
	}
	c.tunnel.SetTable(NewTable(netip.MustParsePrefix("10.255.0.0/24"), c.peers))
	prober := c.tunnel.prober
	prober.interval = time.Second
	prober.setMTU(proberMTU)
	prober.now = func() time.Time { return c.now }
	c.tunnel.lanes[0].inbound.now = prober.now
	c.conn.control = c.answer
	return c
}

// answer is what a peer does with a probe.
func (c *crowd) answer(data []byte, to netip.AddrPort) {
	c.sent++
	probe, ok := parseControl(data)
	if !ok || len(data) > c.pathMTU {
		return
	}
	reply := controlDatagram{typ: controlReply, flags: probe.flags, subnet: c.at[to].subnet, id: probe.id, size: uint32(len(data)), session: 1}
	buf := make([]byte, controlLen)
	reply.put(buf)
	c.waiting = append(c.waiting, Datagram{Data: buf, From: to})
}

// tick lets the prober do what is due, and all answers arrive before the next tick.
func (c *crowd) tick() {
	prober := c.tunnel.prober
	prober.tick()
	c.now = c.now.Add(prober.pause())
	answers := c.waiting
	c.waiting = nil
	for len(answers) > 0 {
		n := min(len(answers), burstSize)
		if err := c.in(answers[:n]...); err != nil {
			c.tb.Fatal(err)
		}
		answers = answers[n:]
	}
	for len(prober.received) > 0 {
		m := <-prober.received
		prober.receive(&m)
	}
}

// run lets d pass, in which packets go to the first inUse peers, and returns the most control datagrams of a second.
func (c *crowd) run(d time.Duration, inUse int) (most int) {
	second, before := c.now, c.sent
	for end := c.now.Add(d); c.now.Before(end); {
		for _, peer := range c.peers[:inUse] {
			peer.tx.add(1, 100)
		}
		c.tick()
		if c.now.Sub(second) >= time.Second {
			most = max(most, c.sent-before)
			second, before = c.now, c.sent
		}
	}
	return max(most, c.sent-before)
}

// limited returns how many of the peers have a limit that fits the paths, and is not less than they take by more than the precision.
func (c *crowd) limited(peers []*Peer) (n int) {
	for _, peer := range peers {
		if limit := int(peer.limit.Load()); limit <= c.pathMTU && limit >= c.pathMTU-mtuPrecision {
			n++
		}
	}
	return n
}

// mostControl is how many control datagrams a second may be sent by all that is said of them, a tick more or less.
const mostControl = ticks*probesPerTick + int(time.Second/mtuProbeInterval) + mtuProbeBurst + probesPerTick

// The underlay of a whole network becomes smaller: all limits are found, with a bounded number of probes and little memory, and no answer
// finds no room.
func TestPathsOfThousandPeersChangeAtOnce(t *testing.T) {
	const n, inUse = 2000, 1500
	c := newCrowd(t, n)
	if most := c.run(30*time.Second, inUse); most > mostControl {
		t.Errorf("%d control datagrams in a second, want at most %d", most, mostControl)
	}
	if got := c.limited(c.peers[:inUse]); got != 0 {
		t.Fatalf("%d limits on paths that take everything", got)
	}
	c.pathMTU = 1372
	heap := liveHeap()
	began, half := c.now, time.Duration(0)
	for c.limited(c.peers[:inUse]) < inUse && c.now.Sub(began) < 2*time.Minute {
		if most := c.run(time.Second, inUse); most > mostControl {
			t.Fatalf("%d control datagrams in a second, want at most %d", most, mostControl)
		}
		if half == 0 && c.limited(c.peers[:inUse]) >= inUse/2 {
			half = c.now.Sub(began)
		}
	}
	took := c.now.Sub(began)
	t.Logf("limits of %d paths found in %v, of half of them in %v", inUse, took, half)
	if got := c.limited(c.peers[:inUse]); got < inUse || took > 40*time.Second {
		t.Errorf("%d of %d limits found in %v", got, inUse, took)
	}
	if grown := int64(liveHeap()) - int64(heap); grown > 1024*n {
		t.Errorf("the heap grew by %d bytes, %d a peer", grown, grown/n)
	}
	if drops := c.rx().Drops[DropControlLimit]; drops != 0 {
		t.Errorf("%d answers found no room", drops)
	}
	// It grows back, by the same means.
	c.pathMTU = proberMTU
	if most := c.run(mtuRaise+time.Minute, inUse); most > mostControl {
		t.Errorf("%d control datagrams in a second when the paths grow, want at most %d", most, mostControl)
	}
	for _, peer := range c.peers[:inUse] {
		if limit := peer.limit.Load(); limit != maxPacket {
			t.Fatalf("limit %d, want none", limit)
		}
	}
}

// Somebody forges "fragmentation needed" for all paths, again and again: that costs no more probes, and no limit.
func TestForgedMTUsForThousandPeers(t *testing.T) {
	const n = 1000
	c := newCrowd(t, n)
	c.run(20*time.Second, n)
	for i := range 30 {
		c.conn.mtu = 600 + 20*i
		if most := c.run(2*time.Second, n); most > mostControl {
			t.Fatalf("%d control datagrams in a second, want at most %d", most, mostControl)
		}
		for _, peer := range c.peers {
			if limit := peer.limit.Load(); limit != maxPacket {
				t.Fatalf("a forged MTU of %d set the limit %d", c.conn.mtu, limit)
			}
		}
	}
	c.conn.mtu = 1500
	c.run(2*time.Minute, n)
	if rounds := len(c.tunnel.prober.rounds); rounds > n/4 {
		t.Errorf("%d searches still go on two minutes later", rounds)
	}
}

// Somebody forges "fragmentation needed" about Flannel's hosts, where it has to be believed, again and again: the log has a bounded
// number of lines.
func TestForgedMTUsFillNoLog(t *testing.T) {
	const n = 1000
	c := newCrowd(t, 0)
	lines := 0
	c.tunnel.log = slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) { lines++; return len(b), nil }), nil))
	c.peers = manyPeers(n) // not twill's
	c.tunnel.SetTable(NewTable(netip.MustParsePrefix("10.255.0.0/24"), c.peers))
	const seconds = 60
	changes := 0
	for i := range seconds {
		c.conn.mtu = 600 + i
		before := c.peers[0].limit.Load()
		c.run(time.Second, n)
		if c.peers[0].limit.Load() != before {
			changes++
		}
	}
	if changes < 10 || lines < logBurst || lines > logBurst+seconds+1 {
		t.Errorf("%d lines for about %d changes, want %d to %d", lines, changes*n, logBurst, logBurst+seconds+1)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// Peers in use do not wait for the searches of others.
func TestSearchesOfPeersInUseComeFirst(t *testing.T) {
	const n, inUse = 1000, 50
	c := newCrowd(t, n)
	c.run(20*time.Second, n)
	c.pathMTU = 1372
	prober := c.tunnel.prober
	for _, peer := range c.peers { // all search; but for the first they are no longer in use
		path := prober.pathOf(peer)
		path.mtu.round, path.mtu.again = nil, false
		path.mtu.search(1, 0)
		prober.advance(peer, c.now)
	}
	for _, peer := range c.peers[inUse:] {
		prober.pathOf(peer).used = time.Time{}
	}
	began := c.now
	for c.limited(c.peers[:inUse]) < inUse && c.now.Sub(began) < time.Minute {
		c.run(100*time.Millisecond, inUse)
	}
	others := c.limited(c.peers[inUse:])
	t.Logf("limits of %d in use found in %v, and of %d others", inUse, c.now.Sub(began), others)
	if c.now.Sub(began) > 5*time.Second || others > (n-inUse)/2 {
		t.Errorf("the limits of %d peers in use took %v, and %d of others were found before", inUse, c.now.Sub(began), others)
	}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A right hint is confirmed with a few probes, which is what makes many searches quick.
func TestRightHintCostsFewProbes(t *testing.T) {
	m := &pathMTU{top: 1472, limit: 1472}
	now, probes := time.Now(), 0
	m.search(1, 1372)
	for m.round != nil {
		for _, size := range m.step(now, time.Second, func() uint64 { return 2 }, always) {
			if probes++; size <= 1372 && size > 0 {
				m.answered(m.round.id, size)
			}
		}
		now = now.Add(time.Second)
	}
	if m.limit != 1372 || probes > 10 {
		t.Errorf("limit %d after %d probes, want 1372 after at most 10", m.limit, probes)
	}
}

// A volley that may not be sent now is sent later, and counts only then.
func TestVolleyWaits(t *testing.T) {
	m := &pathMTU{top: 1472}
	m.search(1, 0)
	asked := 0
	refuse := func(n int) bool { asked = n; return false }
	for range 10 {
		if sizes := m.step(time.Now(), time.Second, func() uint64 { return 2 }, refuse); sizes != nil {
			t.Fatalf("sends %v though it may not", sizes)
		}
	}
	sizes := m.step(time.Now(), time.Second, func() uint64 { return 2 }, always)
	if len(sizes) != asked || len(sizes) != mtuSizes+2 || m.round.volleys != 1 {
		t.Errorf("%d sizes in volley %d, %d asked for; want %d in the first", len(sizes), m.round.volleys, asked, mtuSizes+2)
	}
}
