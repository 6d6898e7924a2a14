package tunnel

import (
	"math/rand/v2"
	"slices"
	"time"
)

// What the prober does about the limits of the paths; pathmtu.go draws the conclusions.

// lookAgain looks at the path to a peer to which a packet was too large.
func (p *prober) lookAgain(peer *Peer) {
	now, path := p.now(), p.pathOf(peer)
	if now.Sub(path.refused) < refusedInterval {
		return
	}
	path.refused = now
	p.look(peer, now, true)
}

// look asks the kernel what the path takes. What it learned from ICMP, or from a route, is believed of a peer that cannot be asked itself;
// of others it is a reason to ask. forced says that a packet was refused, which is a reason also if nothing is new.
func (p *prober) look(peer *Peer, now time.Time, forced bool) {
	mtu, err := p.tunnel.conn().PathMTU(peer.endpoint)
	if err != nil {
		return // no route: sending says so, too
	}
	path := p.pathOf(peer)
	path.mu.Lock()
	former := path.kernelLimit
	path.kernelLimit = max(mtu-encapsulation, minPathLimit)
	wanted := path.kernelLimit < path.mtu.current() || path.kernelLimit > former && former != 0 && path.mtu.current() < path.mtu.top
	changed := path.kernelLimit != former
	switch {
	case path.mtu.searching():
		path.mtu.again = path.mtu.again || changed
	case wanted && (forced || changed) && path.answered > 0 && p.probes(peer):
		path.mtu.search(rand.Uint64(), path.kernelLimit)
	}
	path.mu.Unlock()
	p.advance(peer, now)
}

// advance sends what the finding of a peer's limit has to send now, and puts the limit in force.
func (p *prober) advance(peer *Peer, now time.Time) {
	path := p.pathOf(peer)
	var id uint64
	path.mu.Lock()
	path.mtu.hint = p.found
	searched := path.mtu.searching()
	sizes := path.mtu.step(now, path.rtt.timeout(), rand.Uint64, func(n int) bool { return p.sizes.allowAll(now, n) })
	searching := path.mtu.round != nil
	if searching {
		id = path.mtu.round.id
	}
	if searched && !searching && path.mtu.limit != 0 {
		p.found = path.mtu.limit
	}
	limit := path.limit(p.probes(peer))
	path.mu.Unlock()

	p.setLimit(peer, limit)
	for _, size := range sizes {
		// What cannot be sent is not answered.
		_ = p.send(peer, &controlDatagram{typ: controlProbe, flags: controlUncounted, id: id}, max(size, controlLen))
	}
	if searching && !path.inRounds {
		p.rounds = append(p.rounds, peer)
	}
	path.inRounds = searching || path.inRounds // goOn takes it out
}

// setLimit puts the limit of a path in force.
func (p *prober) setLimit(peer *Peer, limit int) {
	mtu := p.deviceMTU()
	if limit >= mtu {
		limit = maxPacket
	}
	former := int(peer.limit.Swap(int32(limit)))
	switch {
	case former == limit || !p.lines.allow(p.now()):
	case limit == maxPacket:
		p.tunnel.log.Info("path to peer takes the device's MTU again", "peer", peer.subnet, "endpoint", peer.endpoint, "mtu", mtu)
	default:
		p.tunnel.log.Warn("path to peer takes less than the device's MTU", "peer", peer.subnet, "endpoint", peer.endpoint, "mtu", limit, "device-mtu", mtu)
	}
}

// goOn takes the next step in all rounds that are in progress: first in those of peers in use, and of these first in those that began
// first, as they share a limit of probes. Rounds that are over are forgotten.
func (p *prober) goOn(now time.Time) {
	for _, inUse := range []bool{true, false} {
		for _, peer := range p.rounds {
			if p.pathOf(peer).inUse(now) == inUse {
				p.advance(peer, now)
			}
		}
	}
	p.rounds = slices.DeleteFunc(p.rounds, func(peer *Peer) bool {
		path := p.pathOf(peer)
		path.inRounds = path.mtu.round != nil
		return !path.inRounds
	})
}
