package tunnel

import (
	"math/bits"
	"sync/atomic"

	"golang.org/x/sys/cpu"
)

// Stats are the counters of a Tunnel since it was made: the sum over its queues, and each queue.
type Stats struct {
	QueueStats
	Queues []QueueStats
	// Stranger is from where a datagram was last dropped as DropUnknownEndpoint.
	Stranger Sighting
}

// QueueStats counts the two directions of one queue.
type QueueStats struct {
	Tx, Rx Counters
	// ICMPErrors counts the ICMP errors that were written back into the TUN device.
	ICMPErrors uint64
	// Reads are the bursts from the TUN device, in which a super-packet counts as one; Sends the batches that were handed to the socket,
	// in packets as the underlay carries them; Receives the bursts from the socket, in the same.
	Reads, Sends, Receives Bursts
}

// burstSizes is how many sizes Bursts tells apart: 1, 2, 4, … 128, which no burst exceeds.
const burstSizes = 8

// Bursts counts bursts by how many packets they have.
type Bursts struct {
	// Sizes counts those of up to 1<<i packets that the size before does not have.
	Sizes [burstSizes]uint64
	// Packets is how many they have together.
	Packets uint64
}

func (b *Bursts) add(o *Bursts) {
	for i, n := range o.Sizes {
		b.Sizes[i] += n
	}
	b.Packets += o.Packets
}

// burstCounter is a Bursts that one goroutine writes and anyone reads.
type burstCounter struct {
	sizes   [burstSizes]atomic.Uint64
	packets atomic.Uint64
}

// count counts a burst of n packets.
func (c *burstCounter) count(n int) {
	if n == 0 {
		return
	}
	c.sizes[min(bits.Len(uint(n-1)), burstSizes-1)].Add(1)
	c.packets.Add(uint64(n))
}

func (c *burstCounter) load() Bursts {
	b := Bursts{Packets: c.packets.Load()}
	for i := range c.sizes {
		b.Sizes[i] = c.sizes[i].Load()
	}
	return b
}

// Counters count one direction. Packets and Bytes are those that the kernel took from the tunnel, Bytes the inner packets'.
type Counters struct {
	Packets, Bytes uint64
	// Drops counts the packets that were dropped, indexed by DropReason.
	Drops [numDropReasons]uint64
}

// Dropped returns how many packets were dropped for any reason.
func (c *Counters) Dropped() uint64 { return sumDrops(&c.Drops) }

func sumDrops(drops *[numDropReasons]uint64) (sum uint64) {
	for _, n := range drops {
		sum += n
	}
	return sum
}

func (c *Counters) add(o *Counters) {
	c.Packets += o.Packets
	c.Bytes += o.Bytes
	for i, drops := range o.Drops {
		c.Drops[i] += drops
	}
}

// Stats returns the counters as they are now.
func (t *Tunnel) Stats() Stats {
	s := Stats{Queues: make([]QueueStats, len(t.lanes))}
	for i, lane := range t.lanes {
		q := &s.Queues[i]
		q.Tx = lane.outbound.totals.load()
		q.Rx = lane.inbound.totals.load()
		q.ICMPErrors = lane.outbound.icmpSent.Load()
		s.Tx.add(&q.Tx)
		s.Rx.add(&q.Rx)
		s.ICMPErrors += q.ICMPErrors
		if seen := lane.inbound.strangers.load(); seen.At.After(s.Stranger.At) {
			s.Stranger = seen
		}
		q.Reads, q.Sends, q.Receives = lane.outbound.totals.taken.load(), lane.outbound.totals.handed.load(), lane.inbound.totals.taken.load()
		s.Reads.add(&q.Reads)
		s.Sends.add(&q.Sends)
		s.Receives.add(&q.Receives)
	}
	return s
}

// Turns returns for each loop of Run, in no particular order but always the same, a number that grows by one when the loop
// takes a burst and by one when it is done with it. A number that is odd and stays as it is, is a loop that hangs.
func (t *Tunnel) Turns() []uint64 {
	turns := make([]uint64, 0, 2*len(t.lanes))
	for _, lane := range t.lanes {
		turns = append(turns, lane.outbound.totals.turns.Load(), lane.inbound.totals.turns.Load())
	}
	return turns
}

// totals are the counters of one direction of one queue, written by its goroutine and read by anyone. They share a cache
// line with nothing else that is written.
type totals struct {
	_              cpu.CacheLinePad
	packets, bytes atomic.Uint64
	drops          [numDropReasons]atomic.Uint64
	turns          atomic.Uint64 // see Tunnel.Turns
	taken, handed  burstCounter  // from the source, to the socket
	_              cpu.CacheLinePad
}

func (t *totals) load() Counters {
	c := Counters{Packets: t.packets.Load(), Bytes: t.bytes.Load()}
	for i := range t.drops {
		c.Drops[i] = t.drops[i].Load()
	}
	return c
}

// A tally counts one burst in plain integers.
type tally struct {
	Counters
	dropped bool // some of Drops is not 0
}

func (t *tally) drop(reason DropReason, n int) {
	t.Drops[reason] += uint64(n)
	t.dropped = true
}

// flush moves the tally of a burst into the totals.
func (t *tally) flush(to *totals) {
	if t.Packets != 0 {
		to.packets.Add(t.Packets)
		to.bytes.Add(t.Bytes)
	}
	if t.dropped {
		for i, drops := range t.Drops {
			if drops != 0 {
				to.drops[i].Add(drops)
			}
		}
	}
	*t = tally{}
}
