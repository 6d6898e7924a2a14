package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// outbound carries the packets of one queue from the TUN device to the peers.
type outbound struct {
	table   *atomic.Pointer[Table]
	hosts   *atomic.Pointer[hostAddresses]
	spoof   SpoofCheck
	toAll   bool         // Config.DirectedBroadcast
	refused chan<- *Peer // to the prober
	queue   Queue
	conn    *connRef
	ports   int // source ports of conn, also of those it is rebound to
	icmp    *icmpErrors
	now     func() time.Time // for the rate limit of ICMP errors

	batch   []Packet                           // ready to be sent
	arena   [2 * burstSize][maxHeadersLen]byte // for the headers of the segment at the same place in batch
	segment [maxHeadersLen]byte                // for those of a segment until it is in fragments

	gatherer gatherer

	tally    tally
	totals   totals
	icmpSent atomic.Uint64
}

func newOutbound(t *Tunnel, queue Queue, conn *connRef, config Config) *outbound {
	o := &outbound{
		table:   &t.table,
		hosts:   &t.hosts,
		spoof:   config.SpoofCheck,
		toAll:   config.DirectedBroadcast,
		refused: t.prober.refused,
		queue:   queue,
		conn:    conn,
		ports:   conn.load().SourcePorts(),
		icmp:    newICMPErrors(config.Address),
		now:     time.Now,
	}
	o.batch = make([]Packet, 0, len(o.arena))
	return o
}

// burst moves one burst from the TUN device to the socket.
func (o *outbound) burst() error {
	packets, err := o.queue.Read()
	if err != nil {
		return readError(err)
	}
	o.totals.turns.Add(1)
	o.totals.taken.count(len(packets))
	err = o.send(o.forward(packets))
	o.tally.flush(&o.totals)
	o.totals.turns.Add(1)
	return err
}

// forward finds the peer of each packet and returns those that have one, ready to be sent, at the front of the same slice.
func (o *outbound) forward(packets []Packet) []Packet {
	table := burstTable{Table: o.table.Load()}
	n := 0
	for i := range packets {
		p := packets[i]
		reason := o.route(&table, &p)
		if reason == kept {
			if p.Peer.twill && o.ports > 1 {
				p.SourcePort = sourcePort(p.Head, o.ports)
			}
			p.TOS = outerTOS(p.Head, p.Peer)
			packets[n] = p
			n++
			continue
		}
		o.drop(p.Peer, reason, p.segments())
		o.answer(&p, reason)
	}
	return packets[:n]
}

// route makes p ready to be sent to its peer, or returns the reason to drop it; then its header is as it was.
func (o *outbound) route(table *burstTable, p *Packet) DropReason {
	if table.empty() {
		return DropNoTable
	}
	length, reason := checkHeader(p.Head, p.Len())
	if reason != kept {
		return reason
	}
	p.trim(length)

	src := source(p.Head)
	if o.spoof == SpoofStrict && !o.isOurs(table.Table, src) {
		return DropForeignSource
	}
	if src == table.broadcast || !namesOneHost(p.Head[offSource]) {
		return DropMartian
	}
	dst := destination(p.Head)
	if dst.IsMulticast() || dst == broadcast {
		return DropMulticast
	}
	if table.own.Contains(dst) {
		return DropOwnSubnet
	}
	p.Peer = table.Lookup(dst)
	if p.Peer == nil {
		if table.endpoint(dst) != nil {
			return DropLoop
		}
		return DropNoPeer
	}
	if dst == p.Peer.broadcast && !o.toAll {
		return DropMulticast
	}
	if p.Head[offTTL] <= 1 {
		return DropTTLExpired
	}
	if reason := limitLength(p); reason != kept {
		return reason
	}
	setByte(p.Head, offTTL, p.Head[offTTL]-1)
	return kept
}

// limitLength says what is to become of a packet that is larger than the path to its peer takes.
func limitLength(p *Packet) DropReason {
	limit := int(p.Peer.limit.Load())
	if p.Len() <= limit || p.segmentLen() <= limit {
		return kept
	}
	field := binary.BigEndian.Uint16(p.Head[offFragment:])
	if field&flagDF != 0 {
		return DropTooBig
	}
	if offset := int(field&fragmentOffsetMask) * 8; offset+p.Len() > maxPacket {
		// The offsets of its fragments would begin anew at 0: a first fragment that no filter before us has seen.
		return DropBadHeader
	}
	p.Limit = limit
	return kept
}

// isOurs says whether a packet from src may start at this host.
func (o *outbound) isOurs(table *Table, src netip.Addr) bool {
	if table.own.Contains(src) {
		return true
	}
	_, ok := (*o.hosts.Load())[src]
	return ok
}

// broadcast is the limited broadcast address, RFC 919.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// answer tells the sender of p why it was dropped, where the reason, the rules and the rate limit allow it. An answer that cannot
// be written is lost, as any ICMP error may be; if the device is gone the next read says so.
func (o *outbound) answer(p *Packet, reason DropReason) {
	message, ok := icmpAnswer(reason)
	if !ok {
		return
	}
	if reason == DropTooBig {
		message.mtu = uint16(p.Peer.limit.Load())
	}
	packet := o.icmp.about(p, message, o.now())
	if packet != nil && o.queue.Inject(packet) == nil {
		o.icmpSent.Add(1)
	}
}

// send splits super-packets and hands everything to the socket. A batch for it is full when another super-packet might not fit,
// so that each goes in one piece. The error is for the end of the socket, not for packets.
func (o *outbound) send(packets []Packet) error {
	for i := range packets {
		if err := o.split(&packets[i]); err != nil {
			return err
		}
		if len(o.batch) >= burstSize {
			if err := o.flush(); err != nil {
				return err
			}
		}
	}
	return o.flush()
}

// split puts p into the batch, in segments if it is a super-packet.
func (o *outbound) split(p *Packet) error {
	if !p.Offload.isSuper() {
		if !finishChecksum(p) {
			o.drop(p.Peer, DropBadOffload, 1)
			return nil
		}
		return o.add(*p)
	}
	c, ok := newCut(p)
	if !ok {
		o.drop(p.Peer, DropBadOffload, p.segments())
		return nil
	}
	for c.more() {
		arena, err := o.nextArena()
		if err != nil {
			return err
		}
		if p.Limit != 0 && c.nextLen() > p.Limit {
			arena = o.segment[:] // its fragments will have those in the arena
		}
		segment := c.next(arena)
		segment.Peer, segment.SourcePort, segment.TOS, segment.Limit = p.Peer, p.SourcePort, p.TOS, p.Limit
		if err := o.add(segment); err != nil {
			return err
		}
	}
	return nil
}

// add puts a complete packet into the batch, in fragments if it is too large.
func (o *outbound) add(p Packet) error {
	if p.Limit == 0 || p.Len() <= p.Limit {
		o.batch = append(o.batch, p)
		return nil
	}
	f := newFragments(&p, p.Limit)
	for {
		arena, err := o.nextArena()
		if err != nil {
			return err
		}
		fragment, ok := f.next(arena)
		if !ok {
			return nil
		}
		fragment.Peer, fragment.SourcePort, fragment.TOS = p.Peer, p.SourcePort, p.TOS
		o.batch = append(o.batch, fragment)
	}
}

// nextArena makes room in the batch for a packet, and returns where its headers go.
func (o *outbound) nextArena() ([]byte, error) {
	if len(o.batch) == cap(o.batch) {
		if err := o.flush(); err != nil {
			return nil, err
		}
	}
	return o.arena[len(o.batch)][:], nil
}

// flush sends the batch. Packets that the kernel refuses are dropped alone.
func (o *outbound) flush() error {
	packets := o.batch
	o.batch = o.batch[:0]
	o.totals.handed.count(len(packets))
	o.gatherer.gather(packets)
	for len(packets) > 0 {
		conn := o.conn.load()
		n, err := conn.Send(packets)
		switch {
		case err == nil:
			o.sent(packets[:n])
		case o.conn.load() != conn:
			continue // rebound: the same packets again, by the new socket
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return fmt.Errorf("send: %w", err)
		default:
			reason := sendDropReason(err)
			o.drop(packets[0].Peer, reason, n)
			o.answer(&packets[0], reason)
			if reason == DropSendTooBig {
				o.lookAt(packets[0].Peer)
			}
		}
		packets = packets[n:]
	}
	return nil
}

// lookAt has the prober look at the path to a peer, unless it is busy with others.
func (o *outbound) lookAt(peer *Peer) {
	select {
	case o.refused <- peer:
	default:
	}
}

// sent counts packets that the kernel took.
func (o *outbound) sent(packets []Packet) {
	for len(packets) > 0 {
		n, bytes := peerRun(packets)
		packets[0].Peer.tx.add(uint64(n), bytes)
		o.tally.Packets += uint64(n)
		o.tally.Bytes += bytes
		packets = packets[n:]
	}
}

// drop counts n packets that were dropped, and for the peer that they were for, if that is known.
func (o *outbound) drop(peer *Peer, reason DropReason, n int) {
	o.tally.drop(reason, n)
	if peer != nil {
		peer.drop(reason, n)
	}
}

// readError says what the end of a TUN device means.
func readError(err error) error {
	if errors.Is(err, unix.EBADFD) {
		return fmt.Errorf("the TUN device was deleted: %w", err)
	}
	return fmt.Errorf("read: %w", err)
}
