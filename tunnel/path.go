package tunnel

import (
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"
)

// A path is what is known of the way to a peer and back, from the probes that it answers and the counters in them. The prober writes it,
// anybody may read it.
type path struct {
	mu      sync.Mutex
	session uint64 // of our counters

	// tx and rx count the counted control datagrams; they are added to the packets.
	tx, rx uint64

	probes    [pendingProbes]probe // the last ones, by number
	sent      uint64
	answered  uint64
	history   uint32 // of the last probes, the latest in bit 0: 1 if it was answered
	lastReply time.Time
	// silentSince is when the first probe after the last reply was sent.
	silentSince time.Time
	clock       time.Duration // by how much the peer's clock is ahead

	rtt  rttEstimate
	loss lossEstimate
	mtu  pathMTU

	// inquired says that the network was listened to while the peer did not answer, refusal what it said last.
	inquired bool
	refusal  Refusal

	kernelLimit int // what the kernel takes for the path's limit; 0: not known

	// The prober alone looks at these.

	due     time.Time // of the next probe
	idleDue bool      // due is that of a peer not in use
	packets uint64    // in both directions, at the last visit
	used    time.Time // when packets last grew
	refused time.Time // when a packet that was too large last was a reason to look at the path
	replies rateLimit // of our replies to the peer

	inRounds bool // the peer is in prober.rounds
}

// inUseFor is how long after its last packet a peer counts as in use.
const inUseFor = 10 * time.Second

func (p *path) inUse(now time.Time) bool { return !p.used.IsZero() && now.Sub(p.used) < inUseFor }

// setDue says when the next probe is due: after wait, more or less, so that not all hosts probe at once.
func (p *path) setDue(now time.Time, wait time.Duration, inUse bool) {
	p.due = now.Add(wait*3/4 + rand.N(wait/2))
	p.idleDue = !inUse
}

// limit returns the limit of the path as far as it is known. What the kernel says counts as long as the peer was not heard about it.
func (p *path) limit(probed bool) int {
	if limit := p.mtu.limit; limit != 0 {
		return limit
	}
	if p.kernelLimit != 0 && (!probed || p.answered == 0) {
		return p.kernelLimit
	}
	return maxPacket
}

const (
	// pendingProbes is for how many of the last probes a reply still counts: those that are sent at the default interval while one takes
	// maxProbeTimeout, and more.
	pendingProbes = 16
	// unreachableAfter is after how many probes without an answer in a row a peer is said not to answer.
	unreachableAfter = 3
)

// A probe is one that was sent.
type probe struct {
	id   uint64
	sent time.Time
	tx   uint64 // our counter, with this probe
}

// probed notes a probe that is being sent and returns it. tx counts the packets sent to the peer.
func (p *path) probed(id, tx uint64, now time.Time) probe {
	p.tx++
	if p.history&1 == 1 || p.sent == 0 {
		p.silentSince = now
	}
	probe := probe{id: id, sent: now, tx: tx + p.tx}
	p.probes[p.sent%pendingProbes] = probe
	p.sent++
	p.history <<= 1
	return probe
}

// replied takes the reply to a probe, received at now, and says whether it is one. rx counts the packets received from the peer.
func (p *path) replied(c *controlDatagram, rx uint64, now time.Time) bool {
	for age := range min(p.sent, pendingProbes) {
		probe := &p.probes[(p.sent-1-age)%pendingProbes]
		if probe.id != c.id || p.history>>age&1 == 1 {
			continue
		}
		p.history |= 1 << age
		if later := p.history & (1<<age - 1); age > 0 && later == 0 { // those sent since have no answer yet
			p.silentSince = p.probes[(p.sent-age)%pendingProbes].sent
		}
		p.answered++
		p.lastReply = now
		p.inquired, p.refusal = false, Refusal{}
		took := now.Sub(probe.sent)
		rtt := took - min(took, time.Duration(c.hold)) // less than nothing is a lie
		p.rtt.add(rtt)
		p.clock = time.Unix(0, c.time).Sub(now.Add(-rtt / 2)).Round(time.Millisecond)
		p.heard(c, probe.tx, rx, now)
		return true
	}
	return false
}

// heard takes the counters of a probe or reply. tx is our counter when what c's counter counts was sent; rx counts the packets received.
func (p *path) heard(c *controlDatagram, tx, rx uint64, now time.Time) {
	p.loss.add(lossSample{at: now, session: c.session, tx: tx, peerRx: c.rx, peerTx: c.tx, rx: rx + p.rx})
}

// silent returns how many of the last probes in a row have no answer.
func (p *path) silent() uint64 { return min(uint64(bits.TrailingZeros32(p.history)), p.sent) }

// open returns how many of these are so new that the answer may be on its way.
func (p *path) open(now time.Time) (n uint64) {
	for most := min(p.silent(), pendingProbes); n < most; n++ {
		if now.Sub(p.probes[(p.sent-1-n)%pendingProbes].sent) >= p.rtt.timeout() {
			break
		}
	}
	return n
}

// unanswered returns how many of the last probes in a row had no answer, without those for which it may still come.
func (p *path) unanswered(now time.Time) int { return int(p.silent() - p.open(now)) }

// PathStats is what a tunnel knows of the way to a peer and back.
type PathStats struct {
	// ProbesSent and ProbesAnswered count the probes; none are sent to peers that do not run twill.
	ProbesSent, ProbesAnswered uint64
	// Unanswered is how many of the last probes in a row had no answer.
	Unanswered int
	// UnansweredSince is when the first of them was sent.
	UnansweredSince time.Time
	// Inquired says that the network was listened to since, Refusal what it said last.
	Inquired bool
	Refusal  Refusal
	// LastReply is when the last one came; zero if none did.
	LastReply time.Time
	// RTT is the smoothed round-trip time, RFC 6298, of which RTTVar is the mean deviation; MinRTT and LastRTT are single ones. All
	// are 0 before the first reply.
	RTT, RTTVar, MinRTT, LastRTT time.Duration
	// Loss is of the last 32 probes: those that had no answer.
	Loss Loss
	// LossOut and LossIn are of the packets to the peer and from it in about the last half minute, by the counters of both tunnels.
	LossOut, LossIn Loss
	// ClockAhead is by how much the peer's clock is ahead of ours.
	ClockAhead time.Duration
	// MTU is the length of the largest packet that is sent to the peer in one piece; 0 if it is not known to be less than the device's.
	MTU int
}

// A Loss is how many of some packets were lost. Where there were none it is not known.
type Loss struct{ Lost, Sent uint64 }

// Answers says whether the peer answers probes, as far as is known.
func (s *PathStats) Answers() bool { return s.ProbesAnswered > 0 && s.Unanswered < unreachableAfter }

// Unreachable says whether the peer has not answered so many probes that it is out of reach.
func (s *PathStats) Unreachable() bool { return s.Unanswered >= unreachableAfter }

func (p *path) stats(now time.Time) PathStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PathStats{
		ProbesSent:     p.sent,
		ProbesAnswered: p.answered,
		Unanswered:     p.unanswered(now),
		Inquired:       p.inquired,
		Refusal:        p.refusal,
		LastReply:      p.lastReply,
		RTT:            p.rtt.smoothed,
		RTTVar:         p.rtt.variation,
		MinRTT:         p.rtt.min,
		LastRTT:        p.rtt.last,
		ClockAhead:     p.clock,
	}
	if s.Unanswered > 0 {
		s.UnansweredSince = p.silentSince
	}
	s.LossOut, s.LossIn = p.loss.out(), p.loss.in()
	// The latest probe, and those that are open, may still be answered.
	history, n := p.history, min(p.sent, 32)
	if silent := p.silent(); silent > 0 {
		open := max(1, p.open(now))
		history, n = history>>open, n-open
	}
	s.Loss = Loss{Lost: n - uint64(bits.OnesCount32(history)), Sent: n}
	return s
}

// An rttEstimate smooths round-trip times as RFC 6298 section 2 does.
type rttEstimate struct{ smoothed, variation, min, last time.Duration }

func (e *rttEstimate) add(rtt time.Duration) {
	if e.last == 0 {
		*e = rttEstimate{smoothed: rtt, variation: rtt / 2, min: rtt}
	} else {
		e.variation += ((e.smoothed - rtt).Abs() - e.variation) / 4
		e.smoothed += (rtt - e.smoothed) / 8
		e.min = min(e.min, rtt)
	}
	e.last = max(rtt, 1)
}

const (
	// minProbeTimeout leaves time for a tunnel that waits for a CPU.
	minProbeTimeout = 50 * time.Millisecond
	// firstProbeTimeout is for the first answer, as in RFC 6298 section 2.
	firstProbeTimeout = time.Second
	// maxProbeTimeout bounds what a path with long queues, or one that lies, can make us wait.
	maxProbeTimeout = 10 * time.Second
)

// timeout returns how long to wait for an answer.
func (e *rttEstimate) timeout() time.Duration {
	if e.last == 0 {
		return firstProbeTimeout
	}
	return min(max(e.smoothed+4*e.variation, minProbeTimeout), maxProbeTimeout)
}

// A lossSample has the counters of both ends as they were for one control datagram and what was sent before it.
type lossSample struct {
	at         time.Time
	session    uint64
	tx, peerRx uint64 // sent by us and received by the peer
	peerTx, rx uint64 // sent by the peer and received by us
}

// lossWindow is the least time that the counters are compared over, and half of the longest.
const lossWindow = 15 * time.Second

// A lossEstimate compares the counters of both ends over the last time.
type lossEstimate struct {
	old, middle, latest lossSample
	complete            bool // from old to middle is a window that nobody has asked for
}

func (e *lossEstimate) add(s lossSample) {
	switch {
	case e.latest.session != s.session || s.tx < e.latest.tx || s.peerTx < e.latest.peerTx:
		*e = lossEstimate{old: s, middle: s}
	case s.at.Sub(e.middle.at) >= lossWindow:
		e.old, e.middle, e.complete = e.middle, s, true
	}
	e.latest = s
}

// window returns what was lost in the latest complete window, once.
func (e *lossEstimate) window() (out, in Loss, complete bool) {
	if !e.complete {
		return Loss{}, Loss{}, false
	}
	e.complete = false
	return lossOf(e.middle.tx-e.old.tx, e.middle.peerRx-e.old.peerRx), lossOf(e.middle.peerTx-e.old.peerTx, e.middle.rx-e.old.rx), true
}

func (e *lossEstimate) out() Loss {
	return lossOf(e.latest.tx-e.old.tx, e.latest.peerRx-e.old.peerRx)
}

func (e *lossEstimate) in() Loss {
	return lossOf(e.latest.peerTx-e.old.peerTx, e.latest.rx-e.old.rx)
}

// lossOf returns the loss between two counters. The receiver may have counted a packet that the sender is about to count.
func lossOf(sent, received uint64) Loss { return Loss{Lost: sent - min(sent, received), Sent: sent} }
