package tunnel

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// slowReassemble is the twin of the fragmentation: it puts a packet together as its receiver does, and checks each fragment. All are of
// one packet.
func slowReassemble(t *testing.T, packets [][]byte) []byte {
	t.Helper()
	offset := func(p []byte) int { return int(binary.BigEndian.Uint16(p[6:])&0x1fff) * 8 }
	if !slices.IsSortedFunc(packets, func(a, b []byte) int { return cmp.Compare(offset(a), offset(b)) }) {
		t.Fatal("fragments are not in order")
	}
	first := packets[0]
	whole := bytes.Clone(first[:headerLength(first)])
	for i, p := range packets {
		headerLen := headerLength(p)
		if len(p) != int(binary.BigEndian.Uint16(p[2:])) || slowChecksum(p[:headerLen]) != 0 {
			t.Fatalf("fragment %d of %d bytes has the header %x", i, len(p), p[:headerLen])
		}
		if got, want := offset(p)-offset(first), len(whole)-headerLength(first); got != want {
			t.Fatalf("fragment %d is at %d, want %d", i, got, want)
		}
		if more := p[6]&0x20 != 0; i < len(packets)-1 && (!more || (len(p)-headerLen)%8 != 0) {
			t.Fatalf("fragment %d of %d: more fragments %v, %d bytes of data", i, len(packets), more, len(p)-headerLen)
		}
		if !bytes.Equal(p[4:6], first[4:6]) || p[1] != first[1] || !bytes.Equal(p[8:10], first[8:10]) || !bytes.Equal(p[12:20], first[12:20]) {
			t.Fatalf("fragment %d has the header %x, the first %x", i, p[:headerLen], first[:headerLen])
		}
		whole = append(whole, p[headerLen:]...)
	}
	whole[6] = whole[6]&^0x20 | packets[len(packets)-1][6]&0x20
	binary.BigEndian.PutUint16(whole[2:], uint16(len(whole)))
	return fixChecksum(whole)
}

// joined returns the packet in one piece.
func joined(p Packet) []byte { return append(bytes.Clone(p.Head), p.Tail...) }

func TestFragments(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		headerLen := minHeaderLen + 4*r.IntN(11)
		packet := randomBytes(r, headerLen+1+r.IntN(6000))
		packet[0] = 4<<4 | byte(headerLen/4)
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		packet[6], packet[7] = packet[6]&0x2f, packet[7]|1 // a fragment itself, perhaps
		if r.IntN(2) == 0 {
			packet[6], packet[7] = 0, 0
		}
		fixChecksum(packet)
		limit := 100 + r.IntN(1500)
		if len(packet) <= limit {
			continue
		}
		split := headSplit(packet, r.IntN(len(packet)))
		work := bytes.Clone(packet)
		f := newFragments(&Packet{Head: work[:split], Tail: work[split:]}, limit)
		var got [][]byte
		for {
			p, ok := f.next(make([]byte, maxHeadersLen))
			if !ok {
				break
			}
			if p.Len() > limit {
				t.Fatalf("a fragment of %d bytes, want at most %d", p.Len(), limit)
			}
			got = append(got, joined(p))
		}
		if whole := slowReassemble(t, got); !bytes.Equal(whole, packet) {
			t.Fatalf("limit %d, split at %d: %d fragments of\n%x\nmake\n%x", limit, split, len(got), packet, whole)
		}
	}
}

// Only copied options are in the later fragments; the others are no options there, RFC 791.
func TestFragmentsOptions(t *testing.T) {
	for _, tt := range []struct{ options, want []byte }{
		{[]byte{0x07, 4, 5, 6}, []byte{1, 1, 1, 1}},                               // record route
		{[]byte{0x94, 4, 0, 0}, []byte{0x94, 4, 0, 0}},                            // router alert: copied
		{[]byte{1, 0x94, 4, 0, 0, 0x44, 2, 0}, []byte{1, 0x94, 4, 0, 0, 1, 1, 0}}, // timestamp between
		{[]byte{0, 0x07, 4, 4}, []byte{0, 0x07, 4, 4}},                            // behind the end
		{[]byte{0x07, 9, 4, 4}, []byte{0x07, 9, 4, 4}},                            // longer than there is
		{[]byte{1, 1, 1, 0x07}, []byte{1, 1, 1, 0x07}},                            // without its length
		{[]byte{0x07, 1, 4, 4}, []byte{0x07, 1, 4, 4}},                            // shorter than can be
		{[]byte{0x44, 4, 0, 0, 0x83, 3, 4, 0}, []byte{1, 1, 1, 1, 0x83, 3, 4, 0}}, // loose source route: copied
	} {
		packet := udpPacket(ownPod, nearPod, 900)
		packet = slices.Concat(packet[:20], tt.options, packet[20:])
		packet[0] += byte(len(tt.options) / 4)
		setTotalLength(packet)
		f := newFragments(&Packet{Head: packet}, 576)
		first, _ := f.next(make([]byte, maxHeadersLen))
		second, ok := f.next(make([]byte, maxHeadersLen))
		if !ok || !bytes.Equal(first.Head[20:], tt.options) || !bytes.Equal(second.Head[20:], tt.want) {
			t.Errorf("options %x: fragments with %x and %x, want %x in the second", tt.options, first.Head[20:], second.Head[20:], tt.want)
		}
	}
}

// What the tunnel sends to a peer whose path takes less are the packets that fit and fragments of the others, or with DF nothing but
// an ICMP error.
func TestPathLimit(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	rig := newRig(t, SpoofStrict).record()
	out := rig.tunnel.lanes[0].outbound
	out.icmp.unlimited()
	for range 2000 {
		s := randomSuper(r)
		limit := 548 + r.IntN(2500)
		rig.near.limit.Store(int32(limit))
		whole := slowSplit(s)
		largest := 0
		for _, segment := range whole {
			segment[offTTL]--
			fixChecksum(segment)
			largest = max(largest, len(segment))
		}
		df, before := s.packet[offFragment]&0x40 != 0, rig.tx().Drops[DropTooBig]
		rig.written = nil
		sent := rig.routed(s)
		if df && largest > limit {
			if drops := rig.tx().Drops[DropTooBig] - before; len(sent) != 0 || int(drops) != len(whole) {
				t.Fatalf("%d packets sent, %d dropped of %d with DF that need %d where %d fit", len(sent), drops, len(whole), largest, limit)
			}
			checkFragNeeded(t, rig.written, limit, slowSplit(s)[0])
			continue
		}
		for _, want := range whole {
			n := 1
			for n < len(sent) && sent[n][6]&0x1f|sent[n][7] != 0 {
				n++
			}
			for _, p := range sent[:n] {
				if len(p) > limit {
					t.Fatalf("sent %d bytes where %d fit", len(p), limit)
				}
			}
			if got := slowReassemble(t, sent[:n]); !bytes.Equal(got, want) {
				t.Fatalf("limit %d: sent\n%x\nwant\n%x", limit, got, want)
			}
			sent = sent[n:]
		}
		if len(sent) != 0 {
			t.Fatalf("%d packets more than the super-packet has", len(sent))
		}
	}
}

// A fragment that ends past the largest packet is not cut into smaller ones, whose offsets would begin at 0 again.
func TestPathLimitPastTheEnd(t *testing.T) {
	for _, tt := range []struct {
		offset, dropped int // in units of 8 bytes
	}{{maxPacket/8 - 200, 0}, {maxPacket/8 - 100, 1}, {fragmentOffsetMask, 1}} {
		r := newRig(t, SpoofStrict).record()
		r.near.limit.Store(1000)
		packet := udpPacket(ownPod, nearPod, 1200)
		binary.BigEndian.PutUint16(packet[offFragment:], flagMF|uint16(tt.offset))
		if err := r.out(fixChecksum(packet)); err != nil {
			t.Fatal(err)
		}
		if tx := r.tx(); int(tx.Drops[DropBadHeader]) != tt.dropped || len(r.sent) != 2-2*tt.dropped || len(r.written) != 0 {
			t.Errorf("fragment at %d: %d fragments sent, %d answers, drops %v; want %d dropped", tt.offset*8, len(r.sent), len(r.written), tx.Drops, tt.dropped)
		}
	}
}

// Super-packets of one burst that are cut into fragments do not disturb each other: what leaves is what each alone would be.
func TestPathLimitOfBurst(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	rig := newRig(t, SpoofStrict).record()
	for range 500 {
		rig.near.limit.Store(int32(548 + r.IntN(1000)))
		var burst []superPacket
		var want [][]byte
		for range 2 + r.IntN(4) {
			s := randomSuper(r)
			s.packet[offFragment] = 0 // no DF
			fixChecksum(s.packet)
			burst, want = append(burst, s), append(want, rig.routed(s)...)
		}
		if got := rig.routed(burst...); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("%d super-packets in one burst leave as other packets than one by one", len(burst))
		}
	}
}

func checkFragNeeded(t *testing.T, written [][]byte, mtu int, about []byte) {
	t.Helper()
	if len(written) != 1 {
		t.Fatalf("%d answers, want 1", len(written))
	}
	p := written[0]
	if p[20] != 3 || p[21] != 4 || int(binary.BigEndian.Uint16(p[26:])) != mtu || slowChecksum(p[20:]) != 0 {
		t.Errorf("ICMP %x, want fragmentation needed with an MTU of %d", p[20:28], mtu)
	}
	if quote := p[28:]; !bytes.Equal(quote, about[:min(len(about), 548)]) {
		t.Errorf("quoted %x, want %x", quote, about)
	}
}
