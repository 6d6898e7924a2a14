package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// inbound carries the packets of one socket from the peers to the TUN device.
type inbound struct {
	table   *atomic.Pointer[Table]
	hosts   *atomic.Pointer[hostAddresses]
	conn    *connRef
	queue   Queue
	spoof   SpoofCheck
	toAll   bool // Config.DirectedBroadcast
	control chan<- controlMessage
	now     func() time.Time // for Peer.lastSeen

	strangers lastSighting // from whom unknown-endpoint was last dropped

	packets []Packet // those of the burst that passed
	tally   tally
	totals  totals
}

func newInbound(t *Tunnel, conn *connRef, queue Queue, config Config) *inbound {
	return &inbound{
		table:   &t.table,
		hosts:   &t.hosts,
		conn:    conn,
		queue:   queue,
		spoof:   config.SpoofCheck,
		toAll:   config.DirectedBroadcast,
		control: t.prober.received,
		now:     time.Now,
	}
}

// burst moves one burst from the socket to the TUN device.
func (i *inbound) burst() error {
	conn := i.conn.load()
	datagrams, err := conn.Receive()
	if err != nil {
		if i.conn.load() != conn {
			return nil // rebound
		}
		return fmt.Errorf("receive: %w", err)
	}
	i.totals.turns.Add(1)
	i.totals.taken.count(len(datagrams))
	err = i.write(i.accept(datagrams))
	i.tally.flush(&i.totals)
	i.totals.turns.Add(1)
	return err
}

// accept returns the packets that may enter; they lie in the datagrams.
func (i *inbound) accept(datagrams []Datagram) []Packet {
	table := burstTable{Table: i.table.Load()}
	i.packets = i.packets[:0]
	var stranger netip.Addr
	for d := range datagrams {
		packet, reason := i.check(&table, &datagrams[d])
		if reason == consumed {
			continue
		}
		if reason == DropUnknownEndpoint {
			stranger = datagrams[d].From.Addr()
		}
		if reason != kept {
			i.drop(packet.Peer, reason, 1)
			continue
		}
		i.packets = append(i.packets, packet)
	}
	if stranger.IsValid() {
		i.strangers.note(stranger, i.now())
	}
	return i.packets
}

// check returns the packet in a datagram, and from which peer it is as far as that is known, or also the reason to drop it. A control
// datagram is consumed.
func (i *inbound) check(table *burstTable, d *Datagram) (Packet, DropReason) {
	if table.empty() {
		return Packet{}, DropNoTable
	}
	if d.Truncated {
		return Packet{}, DropTruncated
	}
	if isControl(d.Data) {
		return i.takeControl(table.Table, d)
	}
	length, reason := checkHeader(d.Data, len(d.Data))
	if reason != kept {
		return Packet{}, reason
	}
	p := Packet{Head: d.Data[:length]}
	if p.Peer, reason = i.sender(table, p.Head, d); reason != kept {
		return p, reason
	}
	dst := destination(p.Head)
	if !table.own.Contains(dst) {
		return p, DropNotForUs
	}
	if dst == table.broadcast && !i.toAll {
		return p, DropMulticast
	}
	return p, takeTOS(p.Head, d.TOS, p.Peer)
}

// takeControl hands a control datagram to the prober, if it comes from a peer that runs twill.
func (i *inbound) takeControl(table *Table, d *Datagram) (Packet, DropReason) {
	c, ok := parseControl(d.Data)
	if !ok {
		return Packet{}, DropControl
	}
	addr := d.From.Addr()
	peer := table.Lookup(c.subnet.Addr())
	if peer != nil && peer.subnet == c.subnet && peer.endpoint.Addr() != addr {
		peer.claims.note(addr, i.now())
	}
	switch {
	case peer != nil && peer.endpoint.Addr() == addr && peer.subnet == c.subnet:
	case table.endpoint(addr) == nil:
		return Packet{}, DropUnknownEndpoint
	default:
		return Packet{Peer: table.endpoint(addr)}, DropSpoofedSource
	}
	if !peer.twill {
		return Packet{Peer: peer}, DropControl
	}
	now := i.now()
	select {
	case i.control <- controlMessage{peer: peer, controlDatagram: c, length: len(d.Data), at: now}:
		peer.lastSeen.Store(now.UnixNano())
		return Packet{}, consumed
	default:
		return Packet{Peer: peer}, DropControlLimit
	}
}

// sender returns the peer that a packet comes from, or the reason why it cannot be from there. The common case, in which the
// holder of the inner source is at the outer source, passes both checks with one lookup.
func (i *inbound) sender(table *burstTable, head []byte, d *Datagram) (*Peer, DropReason) {
	src := source(head)
	holder := table.Lookup(src)
	if holder != nil && holder.endpoint.Addr() == d.From.Addr() {
		if src == holder.broadcast {
			return holder, DropMartian
		}
		return holder, kept
	}
	peer := table.endpoint(d.From.Addr())
	if peer == nil && i.spoof != SpoofOff {
		return nil, DropUnknownEndpoint
	}
	if i.spoof == SpoofStrict {
		return peer, DropSpoofedSource
	}
	if i.isMartian(table.Table, src, holder) {
		return peer, DropMartian
	}
	return peer, kept
}

// isMartian says whether src, which holder holds if anybody, cannot be where a packet from another host comes from: it is an address of
// ours, or none of a single host.
func (i *inbound) isMartian(table *Table, src netip.Addr, holder *Peer) bool {
	if table.own.Contains(src) || !namesOneHost(src.As4()[0]) || holder != nil && src == holder.broadcast {
		return true
	}
	_, ours := (*i.hosts.Load())[src]
	return ours
}

// write hands packets to the TUN device. Packets that the kernel refuses are dropped alone. The error is for the end of the
// device, not for packets.
func (i *inbound) write(packets []Packet) error {
	for len(packets) > 0 {
		n, err := i.queue.Write(packets)
		switch {
		case err == nil:
			i.written(packets[:n])
		case errors.Is(err, unix.EBADFD):
			return fmt.Errorf("the TUN device was deleted: %w", err)
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrClosed):
			return fmt.Errorf("write: %w", err)
		default:
			for p := range packets[:n] {
				i.drop(packets[p].Peer, writeDropReason(err), 1)
			}
		}
		packets = packets[n:]
	}
	return nil
}

// written counts packets that the kernel took.
func (i *inbound) written(packets []Packet) {
	now := i.now().UnixNano()
	for len(packets) > 0 {
		n, bytes := peerRun(packets)
		if peer := packets[0].Peer; peer != nil {
			peer.rx.add(uint64(n), bytes)
			peer.lastSeen.Store(now)
		}
		i.tally.Packets += uint64(n)
		i.tally.Bytes += bytes
		packets = packets[n:]
	}
}

// drop counts n packets that were dropped, and for the peer that they came from, if that is known.
func (i *inbound) drop(peer *Peer, reason DropReason, n int) {
	i.tally.drop(reason, n)
	if peer != nil {
		peer.drop(reason, n)
	}
}
