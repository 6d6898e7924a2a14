package tunnel

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// A superPacket is a packet as the kernel hands it over: with the header that says what is left to do.
type superPacket struct {
	vnet   vnetHeader
	packet []byte
}

// randomSuper returns a legal TCP or UDP super-packet from our pod to near's.
func randomSuper(r *rand.Rand) superPacket {
	ipOptions, tcpOptions := 0, 4*r.IntN(11)
	if r.IntN(3) == 0 {
		ipOptions = 4 * r.IntN(11)
	}
	size := 1 + r.IntN(3000)
	if r.IntN(4) == 0 {
		size = 1 + r.IntN(20)
	}
	payload := randomBytes(r, 1+r.IntN(min(60000, 140*size)))
	if r.IntN(8) == 0 {
		clear(payload)
	}
	ip := make([]byte, minHeaderLen+ipOptions)
	fillRandom(r, ip)
	ip[0] = 4<<4 | byte(len(ip)/4)
	ip[offTTL] = byte(2 + r.IntN(254))
	binary.BigEndian.PutUint16(ip[offFragment:], uint16(r.IntN(2))*flagDF)
	copy(ip[offSource:], ownPod.AsSlice())
	copy(ip[offDestination:], nearPod.AsSlice())

	s := superPacket{vnet: vnetHeader{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, gsoSize: uint16(size), csumStart: uint16(len(ip))}}
	var transport []byte
	if r.IntN(2) == 0 {
		transport = make([]byte, minTCPHeaderLen+tcpOptions)
		fillRandom(r, transport)
		transport[offTCPData] = byte(len(transport)/4)<<4 | transport[offTCPData]&0xf
		if r.IntN(4) == 0 {
			binary.BigEndian.PutUint32(transport[offTCPSequence:], uint32(-r.IntN(70000))) // wraps
		}
		ip[offProtocol] = protocolTCP
		s.vnet.gsoType, s.vnet.csumOffset = unix.VIRTIO_NET_HDR_GSO_TCPV4|byte(r.IntN(2))*unix.VIRTIO_NET_HDR_GSO_ECN, offTCPChecksum
	} else {
		transport = randomBytes(r, udpHeaderLen)
		binary.BigEndian.PutUint16(transport[offUDPLength:], uint16(udpHeaderLen+len(payload)))
		ip[offProtocol] = protocolUDP
		s.vnet.gsoType, s.vnet.csumOffset = unix.VIRTIO_NET_HDR_GSO_UDP_L4, offUDPChecksum
	}
	s.packet = slices.Concat(ip, transport, payload)
	binary.BigEndian.PutUint16(s.packet[offTotalLength:], uint16(len(s.packet)))
	fixChecksum(s.packet)
	pseudo := ^slowTransportChecksum(s.packet, len(s.packet)-len(ip), nil)
	binary.BigEndian.PutUint16(s.packet[len(ip)+int(s.vnet.csumOffset):], pseudo)
	return s
}

func fillRandom(r *rand.Rand, b []byte) { copy(b, randomBytes(r, len(b))) }

// slowTransportChecksum is the checksum over the pseudo header of a transport header and payload of the given length, and over
// data.
func slowTransportChecksum(ip []byte, length int, data []byte) uint16 {
	pseudo := slices.Concat(ip[offSource:offSource+8], []byte{0, ip[offProtocol], byte(length >> 8), byte(length)})
	return slowChecksum(append(pseudo, data...))
}

// setTransportChecksum writes the right TCP or UDP checksum into packet.
func setTransportChecksum(packet []byte) {
	ipLen := headerLength(packet)
	transport := packet[ipLen:]
	offset := offTCPChecksum
	if packet[offProtocol] == protocolUDP {
		offset = offUDPChecksum
	}
	transport[offset], transport[offset+1] = 0, 0
	sum := slowTransportChecksum(packet, len(transport), transport)
	if sum == 0 && packet[offProtocol] == protocolUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(transport[offset:], sum)
}

// slowSplit is the obvious twin of the split: each segment is made as a whole packet of its own.
func slowSplit(s superPacket) [][]byte {
	ipLen := headerLength(s.packet)
	isTCP := s.packet[offProtocol] == protocolTCP
	headersLen := ipLen + udpHeaderLen
	if isTCP {
		headersLen = ipLen + int(s.packet[ipLen+offTCPData]>>4)*4
	}
	var segments [][]byte
	chunks := slices.Collect(slices.Chunk(s.packet[headersLen:], int(s.vnet.gsoSize)))
	for i, chunk := range chunks {
		segment := append(bytes.Clone(s.packet[:headersLen]), chunk...)
		binary.BigEndian.PutUint16(segment[offTotalLength:], uint16(len(segment)))
		binary.BigEndian.PutUint16(segment[offID:], binary.BigEndian.Uint16(s.packet[offID:])+uint16(i))
		transport := segment[ipLen:]
		if isTCP {
			sequence := binary.BigEndian.Uint32(transport[offTCPSequence:]) + uint32(i)*uint32(s.vnet.gsoSize)
			binary.BigEndian.PutUint32(transport[offTCPSequence:], sequence)
			if i != len(chunks)-1 {
				transport[offTCPFlags] &^= 0x01 | 0x08 // FIN, PSH
			}
			if i != 0 {
				transport[offTCPFlags] &^= 0x80 // CWR
			}
		} else {
			binary.BigEndian.PutUint16(transport[offUDPLength:], uint16(len(transport)))
		}
		fixChecksum(segment)
		setTransportChecksum(segment)
		segments = append(segments, segment)
	}
	return segments
}

// routed returns the packets that the tunnel sends for a burst of super-packets.
func (r *rig) routed(supers ...superPacket) [][]byte {
	var packets []Packet
	for _, s := range supers {
		packets = append(packets, Packet{Head: bytes.Clone(s.packet), Offload: s.vnet})
	}
	r.sent = nil
	out := r.tunnel.lanes[0].outbound
	if err := out.send(out.forward(packets)); err != nil {
		r.tb.Fatal(err)
	}
	out.tally.flush(&out.totals)
	var sent [][]byte
	for _, p := range r.sent {
		if p.Peer != r.near {
			r.tb.Fatalf("sent to %v, want %v", p.Peer, r.near)
		}
		sent = append(sent, append(bytes.Clone(p.Head), p.Tail...))
	}
	return sent
}

func TestSplit(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	r := newRig(t, SpoofStrict).record()
	for range 3000 {
		var burst []superPacket
		var want [][]byte
		for range 1 + random.IntN(3) {
			s := randomSuper(random)
			if random.IntN(4) == 0 {
				s.vnet.flags, s.vnet.csumStart, s.vnet.csumOffset = unix.VIRTIO_NET_HDR_F_DATA_VALID, 0, 0
			}
			burst = append(burst, s)
			routed := superPacket{s.vnet, edit(s.packet, offTTL, s.packet[offTTL]-1)}
			want = append(want, slowSplit(routed)...)
		}
		got := r.routed(burst...)
		if len(got) != len(want) {
			t.Fatalf("%d segments, want %d", len(got), len(want))
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("segment %d of %d with %+v:\ngot  %x\nwant %x", i, len(want), burst[0].vnet, got[i], want[i])
			}
		}
	}
	if tx := r.tx(); tx.Dropped() != 0 {
		t.Errorf("drops %v, want none", tx.Drops)
	}
}

// A packet that is no super-packet gets the checksum that the kernel left to do.
func TestFinishChecksum(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	r := newRig(t, SpoofStrict).record()
	for range 2000 {
		s := randomSuper(random)
		s.packet = s.packet[:min(len(s.packet), 1500)]
		setTotalLength(s.packet)
		ipLen := headerLength(s.packet)
		pseudo := ^slowTransportChecksum(s.packet, len(s.packet)-ipLen, nil)
		binary.BigEndian.PutUint16(s.packet[ipLen+int(s.vnet.csumOffset):], pseudo)
		s.vnet.gsoType, s.vnet.gsoSize = 0, 0

		want := edit(s.packet, offTTL, s.packet[offTTL]-1)
		setTransportChecksum(want)
		if got := r.routed(s); len(got) != 1 || !bytes.Equal(got[0], want) {
			t.Fatalf("got %x, want %x", got, want)
		}
	}
}

// What contradicts itself is dropped, as many packets as it would have been.
func TestBadOffload(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	good := randomSuper(random)
	for good.packet[offProtocol] != protocolTCP || len(slowSplit(good)) < 3 {
		good = randomSuper(random)
	}
	ipLen := headerLength(good.packet)
	for _, tt := range []struct {
		name  string
		spoil func(*superPacket)
		drops int // 0: as many as segments
	}{
		{"no checksum flag", func(s *superPacket) { s.vnet.flags = 0 }, 0},
		{"no size", func(s *superPacket) { s.vnet.gsoSize = 0 }, 1},
		{"transport header elsewhere", func(s *superPacket) { s.vnet.csumStart += 4 }, -1},
		{"TCP as UDP", func(s *superPacket) { s.vnet.gsoType = unix.VIRTIO_NET_HDR_GSO_UDP_L4 }, 0},
		{"IPv6", func(s *superPacket) { s.vnet.gsoType = unix.VIRTIO_NET_HDR_GSO_TCPV6 }, 0},
		{"fragment", func(s *superPacket) { s.packet[offFragment] |= 0x20 }, 0},
		{"short TCP header", func(s *superPacket) { s.packet[ipLen+offTCPData] = 4 << 4 }, -1},
		{"headers only", func(s *superPacket) {
			s.packet = s.packet[:ipLen+tcpHeaderLength(s.packet[ipLen:])]
			setTotalLength(s.packet)
		}, 1},
		{"IP header only", func(s *superPacket) { s.packet = s.packet[:ipLen]; setTotalLength(s.packet) }, 1},
		{"checksum outside", func(s *superPacket) {
			s.vnet = vnetHeader{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, csumStart: uint16(len(s.packet) - 1)}
		}, 1},
		{"checksum in the IP header", func(s *superPacket) {
			s.vnet = vnetHeader{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, csumOffset: 10}
		}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := superPacket{good.vnet, bytes.Clone(good.packet)}
			tt.spoil(&s)
			fixChecksum(s.packet)
			r := newRig(t, SpoofStrict).record()
			want := tt.drops
			if want == 0 {
				want = len(slowSplit(good))
			}
			sent, tx := r.routed(s), r.tx()
			dropped := tx.Drops[DropBadOffload]
			if len(sent) != 0 || dropped == 0 || want > 0 && dropped != uint64(want) || dropped != tx.Dropped() {
				t.Errorf("%d packets sent, drops %v; want %d %v", len(sent), tx.Drops, want, DropBadOffload)
			}
			outboundReasons[DropBadOffload] = true
		})
	}
}

// A super-packet to nobody counts as many drops as it has segments, and is answered once.
func TestDroppedSuperPacket(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	s := randomSuper(rand.New(rand.NewPCG(13, 14)))
	copy(s.packet[offDestination:], nobodysPod.AsSlice())
	fixChecksum(s.packet)
	want := uint64(len(slowSplit(s)))
	r.routed(s)
	if got := r.tx().Drops[DropNoPeer]; got != want || want < 2 || len(r.written) != 1 {
		t.Errorf("%d drops and %d answers, want %d and 1", got, len(r.written), want)
	}
}

// FuzzSplit hands over any bytes with any header. What is sent has right checksums and lengths wherever the kernel left them to be
// computed, and all segments of a super-packet but the last the same size.
func FuzzSplit(f *testing.F) {
	random := rand.New(rand.NewPCG(15, 16))
	for range 10 {
		s := randomSuper(random)
		f.Add(s.packet, s.vnet.flags, s.vnet.gsoType, s.vnet.gsoSize, s.vnet.csumStart, s.vnet.csumOffset)
	}
	r := newRig(f, SpoofStrict).record()
	r.tunnel.SetTable(NewTable(ownSubnet, []*Peer{r.near}))
	f.Add([]byte{}, byte(1), byte(0x81), uint16(19), uint16(48), uint16(16))
	f.Fuzz(func(t *testing.T, packet []byte, flags, gsoType byte, gsoSize, csumStart, csumOffset uint16) {
		if len(packet) > maxPacket {
			return
		}
		s := superPacket{vnetHeader{flags, gsoType, gsoSize, csumStart, csumOffset}, packet}
		before := r.tx()
		segments := r.routed(s)
		after := r.tx()
		if len(segments) == 0 && after.Dropped() == before.Dropped() {
			t.Fatal("neither sent nor dropped")
		}
		var sent []byte // data of the segments
		for i, segment := range segments {
			length, reason := checkHeader(segment, len(segment))
			if reason != kept || length != len(segment) || len(segment) > len(packet) {
				t.Fatalf("segment %d: %x", i, segment)
			}
			if !s.vnet.isSuper() {
				continue
			}
			if slowChecksum(segment[:headerLength(segment)]) != 0 || slowTransportChecksum(segment, len(segment)-headerLength(segment), segment[headerLength(segment):]) != 0 {
				t.Errorf("segment %d has wrong checksums: %x", i, segment)
			}
			if i < len(segments)-1 && len(segment) != len(segments[0]) || len(segment) > len(segments[0]) {
				t.Errorf("segment %d of %d has %d bytes, the first %d", i, len(segments), len(segment), len(segments[0]))
			}
			if id := binary.BigEndian.Uint16(packet[offID:]) + uint16(i); binary.BigEndian.Uint16(segment[offID:]) != id {
				t.Errorf("segment %d has ID %d, want %d", i, binary.BigEndian.Uint16(segment[offID:]), id)
			}
			sent = append(sent, segment[slowHeadersLen(segment):]...)
		}
		if s.vnet.isSuper() && len(segments) > 0 {
			if want := packet[slowHeadersLen(packet):binary.BigEndian.Uint16(packet[offTotalLength:])]; !bytes.Equal(sent, want) {
				t.Errorf("the segments carry %x, want %x", sent, want)
			}
		}
	})
}

// slowHeadersLen returns the length of the IP and the TCP or UDP header of a packet.
func slowHeadersLen(packet []byte) int {
	ip := int(packet[0]&0xf) * 4
	if packet[offProtocol] == protocolTCP {
		return ip + int(packet[ip+12]>>4)*4
	}
	return ip + 8
}
