package tunnel

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A prober keeps the paths to the peers: it probes those that run twill, answers their probes, and finds the limits of the paths. It has a
// goroutine of its own. The two directions of the tunnel hand over what concerns it through channels, without waiting: what does not
// fit is dropped.
type prober struct {
	tunnel   *Tunnel
	observer Observer
	interval time.Duration // between probes to a peer in use; 0: no probes
	mtu      atomic.Int64  // of the device
	now      func() time.Time
	received chan controlMessage
	refused  chan *Peer // the socket refused a packet as too large
	asks     chan *ask  // from Ping
	asked    sync.Map   // by ID, the *ask whose reply may come

	table     *Table
	peers     []*Peer // of table
	visited   time.Time
	next      int       // in peers, the one to visit next
	inUse     int       // of peers, in the last turn
	seenInUse int       // in this turn
	budget    int       // probes that may be sent in this tick
	idle      []*Peer   // visited in this tick, and due
	rounds    []*Peer   // those whose path MTU is being found, in the order in which that began
	lines     rateLimit // of the log
	sizes     rateLimit // of the probes for that
	found     int       // the last limit that a search has found, in case others have it, too; 0: none
	replies   rateLimit
	buffer    []byte
}

// A controlMessage is a control datagram that was received from a peer.
type controlMessage struct {
	peer *Peer
	controlDatagram
	length int
	at     time.Time
}

const (
	// DefaultProbeInterval is a good Config.ProbeInterval.
	DefaultProbeInterval = 2 * time.Second
	// idleProbes is the interval between probes to a peer with which no packets are exchanged.
	idleProbes = 10 * time.Second
	// retryProbes is the interval between probes to a peer that has not answered, until it counts as unreachable.
	retryProbes = time.Second

	// visitInterval is how often the prober looks at each peer, and ticks in how many parts of all peers.
	visitInterval = time.Second
	ticks         = 10
	// probesPerTick bounds what all peers together cost: with more of them each is probed less often, idle ones first.
	probesPerTick = 50

	// mtuProbeInterval and mtuProbeBurst bound the probes of the path MTU to all peers together. When the underlay of a whole network
	// changes, the searches wait for each other. The burst is what the replies to it find room for, in received.
	mtuProbeInterval = 500 * time.Microsecond
	mtuProbeBurst    = 100

	// logInterval and logBurst bound the log lines about limits that change. Who forges ICMP about Flannel's hosts, or has the underlay
	// of a large network change, would else write one for each peer, again and again.
	logInterval = time.Second
	logBurst    = 100

	// refusedInterval is how long packets that are too large for a path are no reason to look at it once more.
	refusedInterval = 100 * time.Millisecond

	// Replies to one peer: a search for the path MTU takes some dozens of probes.
	replyInterval = 10 * time.Millisecond
	replyBurst    = 200
	// Replies to all peers.
	allReplyInterval = 200 * time.Microsecond
	allReplyBurst    = 2000
)

func newProber(t *Tunnel, config Config) *prober {
	p := &prober{
		tunnel:   t,
		observer: config.Observer,
		interval: config.ProbeInterval,
		now:      time.Now,
		received: make(chan controlMessage, 256),
		refused:  make(chan *Peer, 64),
		asks:     make(chan *ask),
		replies:  rateLimit{interval: allReplyInterval, burst: allReplyBurst},
		lines:    rateLimit{interval: logInterval, burst: logBurst},
		sizes:    rateLimit{interval: mtuProbeInterval, burst: mtuProbeBurst},
		buffer:   make([]byte, maxPacket),
	}
	p.setMTU(config.MTU)
	return p
}

// SetMTU says that the device has another MTU, in bytes.
func (t *Tunnel) SetMTU(mtu int) { t.prober.setMTU(mtu) }

func (p *prober) setMTU(mtu int) {
	if mtu == 0 {
		mtu = maxUDPPayload
	}
	p.mtu.Store(int64(mtu))
}

func (p *prober) deviceMTU() int { return int(p.mtu.Load()) }

// run probes and answers until ctx is done.
func (p *prober) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var ticked time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-p.received:
			p.receive(&m)
		case peer := <-p.refused:
			p.lookAgain(peer)
		case a := <-p.asks:
			p.ask(a)
		case <-timer.C:
			p.tick()
			ticked = time.Now()
		}
		timer.Reset(time.Until(ticked.Add(p.pause()))) // what arrives puts no tick off
	}
}

// pause returns the time to the next tick: a host with few peers and no search is not woken ten times a second.
func (p *prober) pause() time.Duration {
	switch {
	case len(p.rounds) > 0:
		return minProbeTimeout
	case len(p.peers) < ticks:
		return visitInterval
	}
	return visitInterval / ticks
}

// tick visits peers, if it is time for that, and goes on with the searches.
func (p *prober) tick() {
	now := p.now()
	p.readTable()
	if now.Sub(p.visited) >= visitInterval/ticks {
		p.visited = now
		p.visitNext(now)
	}
	p.goOn(now)
}

// visitNext visits a tenth of the peers, or all if they are few.
func (p *prober) visitNext(now time.Time) {
	p.budget = probesPerTick
	p.idle = p.idle[:0]
	n := len(p.peers)
	if n >= ticks {
		n = (n + ticks - 1) / ticks
	}
	for range n {
		if p.next >= len(p.peers) {
			p.next, p.inUse, p.seenInUse = 0, p.seenInUse, 0
		}
		p.visit(p.peers[p.next], now)
		p.next++
	}
	for _, peer := range p.idle {
		if p.spend() {
			p.probe(peer, now)
		}
	}
}

// readTable takes the peers of the table that is in force.
func (p *prober) readTable() {
	table := p.tunnel.table.Load()
	if table == p.table {
		return
	}
	p.table = table
	p.peers = append(p.peers[:0], table.peers...)
}

// pathOf returns the peer's path, and makes it when the prober first has to do with the peer.
func (p *prober) pathOf(peer *Peer) *path {
	if path := peer.path.Load(); path != nil {
		return path
	}
	path := &path{
		session: rand.Uint64(),
		mtu:     pathMTU{top: p.deviceMTU()},
		replies: rateLimit{interval: replyInterval, burst: replyBurst},
	}
	peer.path.Store(path)
	return path
}

// visit does what is due for a peer. Those in use are probed at once, the others from what is left of the budget.
func (p *prober) visit(peer *Peer, now time.Time) {
	path := p.pathOf(peer)
	if packets := peer.tx.packets.Load() + peer.rx.packets.Load(); packets != path.packets {
		path.packets, path.used = packets, now
	}
	inUse := path.inUse(now)
	if inUse {
		p.seenInUse++
	}
	if now.Add(visitInterval/2).Before(path.due) && !(inUse && path.idleDue) {
		return
	}
	switch {
	case inUse:
		p.keep(peer, now)
	case p.probes(peer):
		p.idle = append(p.idle, peer)
	}
}

// probes says whether a peer is sent probes.
func (p *prober) probes(peer *Peer) bool { return peer.twill && p.interval > 0 }

// keep probes a peer in use, and looks after the limit of its path.
func (p *prober) keep(peer *Peer, now time.Time) {
	if !p.spend() {
		return
	}
	path := p.pathOf(peer)
	path.mu.Lock()
	path.mtu.setTop(p.deviceMTU())
	path.mu.Unlock()
	p.look(peer, now, false)
	if !p.probes(peer) {
		path.setDue(now, DefaultProbeInterval, true)
		return
	}
	p.probe(peer, now)
	path.mu.Lock()
	switch {
	case path.mtu.round != nil:
	case path.mtu.mayRaise(now):
		path.mtu.search(rand.Uint64(), path.mtu.limit) // most likely it is still that
	case path.answered > 0:
		path.mtu.check(rand.Uint64())
	}
	path.mu.Unlock()
	p.advance(peer, now)
}

// stretch returns the interval at which n peers take no more than half of the budget, if that is longer than the given one.
func stretch(interval time.Duration, n int) time.Duration {
	const peersPerSecond = probesPerTick * ticks / 2
	return max(interval, time.Duration(n)*time.Second/peersPerSecond)
}

// spend takes a probe from the budget, if there is one.
func (p *prober) spend() bool {
	p.budget--
	return p.budget >= 0
}

// probe sends a probe and says when the next is due.
func (p *prober) probe(peer *Peer, now time.Time) {
	path := p.pathOf(peer)
	path.mu.Lock()
	missed := path.unanswered(now)
	probe := path.probed(rand.Uint64(), peer.tx.packets.Load(), now)
	path.mu.Unlock()
	wait := stretch(p.interval, p.inUse)
	switch {
	case missed > 0 && missed < unreachableAfter && path.answered > 0:
		wait = min(wait, retryProbes)
	case !path.inUse(now):
		wait = stretch(idleProbes, len(p.peers))
	}
	path.setDue(now, wait, path.inUse(now))
	p.observer.ProbeSent()
	_ = p.send(peer, &controlDatagram{typ: controlProbe, id: probe.id}, controlLen)
	if missed >= unreachableAfter-1 {
		p.tunnel.asker.ask(peer)
	}
}

// receive takes a control datagram.
func (p *prober) receive(m *controlMessage) {
	path := p.pathOf(m.peer)
	path.mu.Lock()
	if m.counted() {
		path.rx++
	}
	path.mu.Unlock()
	if m.typ == controlProbe {
		p.answer(m)
		return
	}
	if !m.counted() && p.takeAsked(m) {
		return
	}
	path.mu.Lock()
	first := path.answered == 0
	if m.counted() {
		if path.replied(&m.controlDatagram, m.peer.rx.packets.Load(), m.at) {
			p.observer.RoundTrip(path.rtt.last)
		}
		p.tellLosses(path)
	} else {
		path.mtu.answered(m.id, int(m.size))
	}
	if first = first && path.answered > 0; first {
		path.mtu.doubt(rand.Uint64(), path.kernelLimit, m.at)
	}
	path.mu.Unlock()
	if first || !m.counted() {
		p.advance(m.peer, m.at)
	}
}

// tellLosses tells the observer of a window of the loss estimate that is complete.
func (p *prober) tellLosses(path *path) {
	if out, in, complete := path.loss.window(); complete {
		p.observer.Losses(out, in)
	}
}

// answer sends the reply to a probe.
func (p *prober) answer(m *controlMessage) {
	path := p.pathOf(m.peer)
	if !path.replies.allow(m.at) || !p.replies.allow(m.at) {
		m.peer.drop(DropControlLimit, 1)
		p.tunnel.lanes[0].inbound.totals.drops[DropControlLimit].Add(1)
		return
	}
	if m.counted() {
		path.mu.Lock()
		path.heard(&m.controlDatagram, m.peer.tx.packets.Load()+path.tx, m.peer.rx.packets.Load(), m.at)
		p.tellLosses(path)
		path.tx++
		path.mu.Unlock()
	}
	_ = p.send(m.peer, &controlDatagram{
		typ:   controlReply,
		flags: m.flags & controlUncounted,
		id:    m.id,
		hold:  int64(p.now().Sub(m.at)),
		size:  uint32(m.length),
	}, controlLen)
}

// errFenced says that the tunnel has no subnet in whose name to speak.
var errFenced = errors.New("this host holds no lease now")

// send completes a control datagram and sends it, with padding up to length. To most callers one that cannot be sent is lost, as any may
// be.
func (p *prober) send(peer *Peer, c *controlDatagram, length int) error {
	own := p.tunnel.table.Load().own
	if !own.IsValid() {
		return errFenced
	}
	path := p.pathOf(peer)
	path.mu.Lock()
	c.session = path.session
	c.tx, c.rx = peer.tx.packets.Load()+path.tx, peer.rx.packets.Load()+path.rx
	path.mu.Unlock()
	c.subnet, c.time = own, p.now().UnixNano()
	c.put(p.buffer[:length])
	return p.tunnel.conn().SendControl(p.buffer[:length], peer.endpoint)
}
