package tunnel

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// The twin of the incremental update sums the whole header again.
func TestSetByteEqualsSlowTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		header := randomBytes(r, minHeaderLen+4*r.IntN(11))
		header[0] = 4<<4 | byte(len(header)/4)
		fixChecksum(header)
		offset, value := []int{offTTL, offTOS}[r.IntN(2)], byte(r.Uint32())
		want := edit(header, offset, value)
		if value == header[offset] {
			want = bytes.Clone(header)
		}
		before := bytes.Clone(header)
		setByte(header, offset, value)
		if !bytes.Equal(header, want) {
			t.Fatalf("byte %d of %x set to %d: got %x, want %x", offset, before, value, header, want)
		}
	}
}

// A checksum that was wrong stays wrong: the receiver shall see it.
func TestSetByteKeepsBadChecksumBad(t *testing.T) {
	header := udpPacket(ownPod, nearPod, 0)
	header[offChecksum] ^= 0x10
	setByte(header, offTTL, 63)
	if slowChecksum(header[:minHeaderLen]) == 0 {
		t.Error("a bad header checksum was repaired")
	}
}

func TestCheckHeader(t *testing.T) {
	good := udpPacket(ownPod, nearPod, 4) // 32 bytes
	withOptions := append([]byte{0x46}, good[1:]...)
	tests := []struct {
		name   string
		packet []byte
		length int
		reason DropReason
	}{
		{"good", good, 32, kept},
		{"options", withOptions, 32, kept},
		{"longer than it says", append(bytes.Clone(good), 1, 2, 3), 32, kept},
		{"header only", edit(good[:20], 3, 20), 20, kept},
		{"empty", nil, 0, DropBadHeader},
		{"one byte", good[:1], 0, DropBadHeader},
		{"header cut", good[:19], 0, DropBadHeader},
		{"shorter than it says", good[:31], 0, DropBadHeader},
		{"IHL 4", edit(good, 0, 0x44), 0, DropBadHeader},
		{"IHL 0", edit(good, 0, 0x40), 0, DropBadHeader},
		{"IHL past the total length", edit(good, 0, 0x4f), 0, DropBadHeader},
		{"IHL past the packet", edit(edit(good[:20], 3, 24), 0, 0x46), 0, DropBadHeader},
		{"total length 0", edit(good, 3, 0), 0, DropBadHeader},
		{"total length below the header", edit(good, 3, 19), 0, DropBadHeader},
		{"version 5", edit(good, 0, 0x55), 0, DropBadHeader},
		{"version 15", edit(good, 0, 0xf5), 0, DropBadHeader},
		{"IPv6", edit(good, 0, 0x60), 0, DropIPv6},
		{"IPv6, one byte", []byte{0x60}, 0, DropIPv6},
	}
	for _, tt := range tests {
		length, reason := checkHeader(tt.packet, len(tt.packet))
		if reason != tt.reason || reason == kept && length != tt.length {
			t.Errorf("%s: got length %d, reason %v; want %d, %v", tt.name, length, reason, tt.length, tt.reason)
		}
	}
}

func TestTrim(t *testing.T) {
	for _, tt := range []struct{ head, tail, length int }{
		{30, 0, 30}, {30, 0, 20}, {20, 30, 50}, {20, 30, 40}, {20, 30, 20}, {20, 30, 15},
	} {
		whole := randomBytes(rand.New(rand.NewPCG(5, 6)), tt.head+tt.tail)
		p := Packet{Head: whole[:tt.head], Tail: whole[tt.head:]}
		p.trim(tt.length)
		if got := append(bytes.Clone(p.Head), p.Tail...); !bytes.Equal(got, whole[:tt.length]) || p.Len() != tt.length {
			t.Errorf("trim %d + %d to %d: got %x, want %x", tt.head, tt.tail, tt.length, got, whole[:tt.length])
		}
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
