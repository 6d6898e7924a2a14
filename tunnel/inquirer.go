package tunnel

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// An inquirer finds out why peers do not answer. It sends each that the prober hands over a probe from a socket of its own, whose error
// queue keeps what the network says about it: that of the packets' sockets would cost them their own errors. How many it is handed
// is bounded as the prober's probes are.
type inquirer struct {
	tunnel *Tunnel
	peers  chan *Peer // from the prober
	socket socket     // zero while nothing is asked
	local  netip.Addr // that the socket is bound to
	// waiting are the peers about which the network may yet say something, by endpoint.
	waiting map[netip.AddrPort]inquiry
}

// An inquiry is a probe that was sent.
type inquiry struct {
	peer *Peer
	sent time.Time
}

const (
	// inquiryPause is how often the inquirer looks for what was said, and asks again about at most askedAgain peers: a host sends one
	// ICMP error a second for all that comes in vain, pods' packets among it.
	inquiryPause = 250 * time.Millisecond
	askedAgain   = 16
	// inquiryTimeout leaves time for three ARP requests, a second apart, and for a router that does the same.
	inquiryTimeout = 5 * time.Second
	// refusalStays is how long what was said counts, though later probes met silence.
	refusalStays = time.Minute
)

func newInquirer(t *Tunnel) *inquirer {
	return &inquirer{tunnel: t, peers: make(chan *Peer, 64), waiting: map[netip.AddrPort]inquiry{}}
}

// ask has the inquirer ask about peer, unless it is busy with many others.
func (q *inquirer) ask(peer *Peer) {
	select {
	case q.peers <- peer:
	default:
	}
}

// run asks until ctx is done.
func (q *inquirer) run(ctx context.Context) error {
	defer q.close()
	tick := time.NewTicker(inquiryPause)
	tick.Stop()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case peer := <-q.peers:
			if len(q.waiting) == 0 { // else it ticks, and who is handed over puts no tick off
				tick.Reset(inquiryPause)
			}
			q.send(peer, time.Now())
		case <-tick.C:
			q.look(time.Now())
			q.again(time.Now())
			if len(q.waiting) == 0 {
				tick.Stop()
				q.close()
			}
		}
	}
}

// send sends a probe to peer. A reply goes to the tunnel's own socket, where nobody waits for it.
func (q *inquirer) send(peer *Peer, now time.Time) {
	if _, waits := q.waiting[peer.endpoint]; waits || !q.open() {
		return
	}
	q.waiting[peer.endpoint] = inquiry{peer: peer, sent: now}
	q.probe(peer, now)
}

// probe sends a probe to a peer that is waited for.
func (q *inquirer) probe(peer *Peer, now time.Time) {
	own := q.tunnel.table.Load().own
	if !own.IsValid() {
		return // fenced
	}
	path := peer.path.Load()
	path.mu.Lock()
	c := controlDatagram{typ: controlProbe, flags: controlUncounted, subnet: own, time: now.UnixNano(), session: path.session}
	path.mu.Unlock()
	var data [controlLen]byte
	c.put(data[:])
	if errno := unix.Errno(0); errors.As(q.write(data[:], peer.endpoint, now), &errno) {
		q.take(peer.endpoint, Refusal{Err: errno, At: now})
	}
}

// write sends a datagram, and gives up where the send buffer stays full. Its error is about that one: what the network has just said
// about an earlier one, and the kernel gives the next send in its place, is taken.
func (q *inquirer) write(data []byte, to netip.AddrPort, now time.Time) error {
	if err := q.socket.SetWriteDeadline(time.Now().Add(inquiryPause)); err != nil {
		return err
	}
	_, err := q.socket.WriteToUDPAddrPort(data, to)
	if err != nil && q.socket.refusals(now, q.take) > 0 {
		_, err = q.socket.WriteToUDPAddrPort(data, to)
	}
	return err
}

// open opens the socket, or another where the tunnel has moved to another address.
func (q *inquirer) open() bool {
	local := q.tunnel.conn().LocalAddr().Addr()
	if q.local == local {
		return true
	}
	q.close()
	s, err := openInquiring(local)
	if err != nil {
		return false // the address is gone: the sockets of the packets say so
	}
	q.socket, q.local = s, local
	return true
}

func (q *inquirer) close() {
	if q.local.IsValid() {
		q.socket.Close()
		q.socket, q.local = socket{}, netip.Addr{}
	}
}

// look takes what the network has said, and takes silence for an answer after a while.
func (q *inquirer) look(now time.Time) {
	if q.local.IsValid() {
		q.socket.refusals(now, q.take)
	}
	for endpoint, i := range q.waiting {
		if now.Sub(i.sent) >= inquiryTimeout {
			q.take(endpoint, Refusal{})
		}
	}
}

// again asks once more about some of those that are waited for, whichever.
func (q *inquirer) again(now time.Time) {
	if !q.local.IsValid() {
		return
	}
	left := askedAgain
	for _, i := range q.waiting {
		if left--; left < 0 {
			return
		}
		q.probe(i.peer, now)
	}
}

// take notes what was said about the datagram to an endpoint; the zero Refusal: nothing.
func (q *inquirer) take(to netip.AddrPort, r Refusal) {
	i, ok := q.waiting[to]
	if !ok {
		return
	}
	delete(q.waiting, to)
	path := i.peer.path.Load()
	path.mu.Lock()
	if r.Err != nil || time.Since(path.refusal.At) > refusalStays {
		path.refusal = r
	}
	path.inquired = true
	path.mu.Unlock()
}
