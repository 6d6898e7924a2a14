//go:build attack

package main

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"twill/internal/forge"
)

// answers follows the ICMP errors that the daemon writes, and those of them that
// are for the pod until they are there: each is one that the rules want, byte by
// byte, and where no rate limit can be the reason none is missing.
type answers struct {
	pod, from netip.Addr   // from: the daemon's own address
	due       forge.Ledger // those of this batch
	dueNow    int
	seen      int
	undue     [][]byte
	inPod     forge.Ledger
	allowance float64 // so many the limit of one receiver surely lets pass
	refilled  time.Time

	wanted, exact, written, arrived int // in all; exact: of wanted, in batches where all had to come
}

// The limit of the errors to one receiver, as docs/threat-model.md tells it. All
// receivers are taken for one here, which is less than they may have.
const answersAtOnce, answersPerSecond = 50, 100

func newAnswers(a *assault) *answers {
	return &answers{pod: a.pod.Addr(), from: a.rules.Own.Addr(), allowance: answersAtOnce, refilled: time.Now()}
}

// begin begins a batch.
func (r *answers) begin() {
	now := time.Now()
	r.allowance = min(answersAtOnce, r.allowance+answersPerSecond*now.Sub(r.refilled).Seconds())
	r.refilled = now
	r.due, r.dueNow, r.seen = forge.Ledger{}, 0, 0
}

// expect notes the error that the sender of a packet is due.
func (r *answers) expect(f forge.Fate) {
	if f.Answer != nil {
		r.due.Due(f.Answer)
		r.dueNow++
	}
}

// saw takes in what the daemon wrote.
func (r *answers) saw(p []byte) {
	if !r.due.Owes(p) {
		r.undue = append(r.undue, p)
		return
	}
	r.due.Saw(p)
	r.seen++
	if netip.AddrFrom4([4]byte(p[16:])) == r.pod {
		r.inPod.Due(oneHopOn(p))
		r.arrived++
	}
}

// settle ends a batch of which the daemon has counted every packet. It answers
// before it counts.
func (r *answers) settle() error {
	r.wanted += r.dueNow
	r.written += r.seen
	if len(r.undue) > 0 {
		return fmt.Errorf("%d packets were written that no rule wants, one is %x", len(r.undue), r.undue[0])
	}
	if float64(r.dueNow) > r.allowance {
		r.allowance = 0
		return nil
	}
	r.allowance -= float64(r.dueNow)
	r.exact += r.dueNow
	if err := r.due.Balance(); err != nil {
		return fmt.Errorf("ICMP errors: %w", err)
	}
	return nil
}

// look takes in what the pod has got from the daemon's address.
func (r *answers) look(pod *forge.Wire) error {
	frames, err := pod.Record()
	if err != nil {
		return err
	}
	for _, f := range frames {
		for _, p := range f.Packets {
			if !f.Outgoing && r.isDaemons(p) {
				r.inPod.Saw(p)
			}
		}
	}
	return r.inPod.Balance()
}

// isDaemons tells the daemon's ICMP errors from what the kernel says from the same
// address: they have ID 0 and DF.
func (r *answers) isDaemons(p []byte) bool {
	return p[9] == 1 && netip.AddrFrom4([4]byte(p[12:])) == r.from && binary.BigEndian.Uint32(p[4:]) == 0x4000 && p[1] == 6<<5
}

// enough is an error if so little was compared that it says nothing.
func (r *answers) enough(total int) error {
	if r.wanted < total/50 || r.exact < r.wanted/4 || r.arrived < r.written/20 {
		return fmt.Errorf("too little was compared of %d packets: %s", total, r)
	}
	return nil
}

func (r *answers) String() string {
	return fmt.Sprintf("%d ICMP errors were due, %d written, %d arrived in the pod; of %d none could be missing", r.wanted, r.written, r.arrived, r.exact)
}

// oneHopOn is a packet behind the next router.
func oneHopOn(packet []byte) []byte {
	p := append([]byte(nil), packet...)
	p[8]--
	clear(p[10:12])
	binary.BigEndian.PutUint16(p[10:], ^headerSum(p))
	return p
}

// peerDrops compares the drops that the daemon counts with each peer with what they
// must be. Peers at the same address are taken together: of some packets from there
// nobody knows whose they are.
type peerDrops struct {
	*assault
	before, due map[netip.Addr]map[string]uint64
}

func newPeerDrops(a *assault) *peerDrops {
	a.t.Helper()
	p := &peerDrops{assault: a, due: map[netip.Addr]map[string]uint64{}}
	var err error
	p.before, err = p.now()
	a.must(err)
	return p
}

func (p *peerDrops) now() (map[netip.Addr]map[string]uint64, error) {
	peers, err := p.cluster.peers(p.target)
	all := map[netip.Addr]map[string]uint64{}
	for _, peer := range peers {
		sum := uint64(0)
		for reason, n := range peer.DropReasons {
			count(all, peer.Endpoint.Addr(), reason, n)
			sum += n
		}
		if sum != peer.Drops {
			err = fmt.Errorf("%s has %d drops, by reason %v", peer.Subnet, peer.Drops, peer.DropReasons)
		}
	}
	return all, err
}

func count(drops map[netip.Addr]map[string]uint64, addr netip.Addr, reason string, n uint64) {
	if drops[addr] == nil {
		drops[addr] = map[string]uint64{}
	}
	drops[addr][reason] += n
}

func (p *peerDrops) expect(f forge.Fate) {
	if f.Peer != nil && f.Drop != "" {
		count(p.due, f.Peer.Endpoint.Addr(), f.Drop, 1)
	}
}

func (p *peerDrops) check() error {
	now, err := p.now()
	if err != nil {
		return err
	}
	for addr, drops := range now {
		for reason, n := range p.before[addr] {
			if drops[reason] -= n; drops[reason] == 0 {
				delete(drops, reason)
			}
		}
		if !maps.Equal(drops, p.due[addr]) {
			return fmt.Errorf("the drops of the peers at %s are %v, want %v", addr, drops, p.due[addr])
		}
	}
	return nil
}
