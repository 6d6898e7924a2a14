package tunnel

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// mergeAll returns how the merger divides a burst into runs, with the super-packets that it makes of them.
func mergeAll(burst [][]byte) (runs []int, supers []superPacket) {
	var m merger
	packets := make([]Packet, len(burst))
	for i, p := range burst {
		packets[i].Head = bytes.Clone(p)
	}
	for len(packets) > 0 {
		n := m.run(packets, true, true)
		s := superPacket{packet: packets[0].Head}
		if n > 1 {
			s = superPacket{m.vnet, bytes.Clone(m.headers[:m.headersLen])}
			for _, p := range packets[:n] {
				s.packet = append(s.packet, p.Head[m.headersLen:]...)
			}
		}
		runs, supers = append(runs, n), append(supers, s)
		packets = packets[n:]
	}
	return runs, supers
}

// checkLegal fails the test if the super-packets of a burst, cut by the twin of the split, are not the packets that they were made
// of, or if one of these had a wrong checksum.
func checkLegal(t *testing.T, burst [][]byte, runs []int, supers []superPacket) {
	t.Helper()
	for i, n := range runs {
		run := burst[:n]
		burst = burst[n:]
		if n == 1 {
			if !bytes.Equal(supers[i].packet, run[0]) {
				t.Fatalf("a single packet was changed: %x is now %x", run[0], supers[i].packet)
			}
			continue
		}
		s := supers[i]
		ipLen := headerLength(s.packet)
		pseudo := ^slowTransportChecksum(s.packet, len(s.packet)-ipLen, nil)
		if slowChecksum(s.packet[:ipLen]) != 0 || int(binary.BigEndian.Uint16(s.packet[offTotalLength:])) != len(s.packet) ||
			binary.BigEndian.Uint16(s.packet[int(s.vnet.csumStart)+int(s.vnet.csumOffset):]) != pseudo ||
			s.vnet.flags != unix.VIRTIO_NET_HDR_F_NEEDS_CSUM || int(s.vnet.csumStart) != ipLen || n > maxSegments || len(s.packet) > maxMerged {
			t.Fatalf("illegal super-packet %+v %x", s.vnet, s.packet[:60])
		}
		segments := slowSplit(s)
		if len(segments) != n {
			t.Fatalf("%d packets became %d", n, len(segments))
		}
		for j, segment := range segments {
			want := bytes.Clone(run[j])
			if binary.BigEndian.Uint16(want[offFragment:]) == flagDF {
				copy(want[offID:], segment[offID:offID+2]) // means nothing
				fixChecksum(want)
				if slowChecksum(run[j][:ipLen]) != 0 {
					t.Fatalf("a bad header checksum was repaired: %x", run[j])
				}
			}
			if !bytes.Equal(segment, want) {
				t.Fatalf("packet %d of %d: merged and cut again %x, was %x", j, n, segment, want)
			}
		}
	}
}

// A flow is a generator of packets from near's pod to ours.
type flow struct {
	r          *rand.Rand
	head       []byte // headers of the next packet
	headersLen int
	size       int
}

func newFlow(r *rand.Rand, tcp bool, port uint16) *flow {
	f := &flow{r: r, size: 1 + r.IntN(1400)}
	ip := randomBytes(r, minHeaderLen)
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[offFragment:], uint16(r.IntN(2))*flagDF)
	copy(ip[offSource:], nearPod.AsSlice())
	copy(ip[offDestination:], ownPod.AsSlice())
	var transport []byte
	if tcp {
		ip[offProtocol] = protocolTCP
		transport = randomBytes(r, minTCPHeaderLen+4*r.IntN(4))
		transport[offTCPData] = byte(len(transport)/4) << 4
		transport[offTCPFlags] = tcpACK
		binary.BigEndian.PutUint32(transport[offTCPSequence:], uint32(-r.IntN(3000))) // wraps soon
	} else {
		ip[offProtocol] = protocolUDP
		transport = randomBytes(r, udpHeaderLen)
	}
	binary.BigEndian.PutUint16(transport, port)
	f.head = append(ip, transport...)
	f.headersLen = len(f.head)
	return f
}

// next returns the next packet with n bytes of payload.
func (f *flow) next(n int) []byte {
	p := append(bytes.Clone(f.head), randomBytes(f.r, n)...)
	if p[offProtocol] == protocolUDP {
		binary.BigEndian.PutUint16(p[minHeaderLen+offUDPLength:], uint16(udpHeaderLen+n))
	} else {
		sequence := f.head[minHeaderLen+offTCPSequence:]
		binary.BigEndian.PutUint32(sequence, binary.BigEndian.Uint32(sequence)+uint32(n))
	}
	binary.BigEndian.PutUint16(f.head[offID:], binary.BigEndian.Uint16(f.head[offID:])+1)
	setTotalLength(p)
	setTransportChecksum(p)
	return p
}

// A clean flow becomes as few super-packets as possible.
func TestMergeCleanFlow(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for i := range 2000 {
		f := newFlow(r, i%2 == 0, 1000)
		full := 1 + r.IntN(150)
		var burst [][]byte
		for range full {
			burst = append(burst, f.next(f.size))
		}
		perRun := min(maxSegments, (maxMerged-f.headersLen)/f.size)
		var want []int
		for left := full; left > 0; left -= perRun {
			want = append(want, min(left, perRun))
		}
		if tail := r.IntN(f.size); tail > 0 && want[len(want)-1] < perRun && (f.headersLen+f.size*want[len(want)-1]+tail <= maxMerged) {
			burst = append(burst, f.next(tail))
			want[len(want)-1]++
		}
		runs, supers := mergeAll(burst)
		if !slices.Equal(runs, want) {
			t.Fatalf("%d packets of %d bytes in runs %v, want %v", len(burst), f.size, runs, want)
		}
		checkLegal(t, burst, runs, supers)
	}
}

// Two packets of a flow of which the second, or both, differ from what can be merged.
func TestMergeRefuses(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	const tcpOnly, udpOnly = 1, 2
	type pair = [2][]byte
	resum := func(p []byte) { fixChecksum(p); setTransportChecksum(p) }
	second := func(edit func(p []byte)) func(*pair) {
		return func(p *pair) { edit(p[1]); resum(p[1]) }
	}
	for _, tt := range []struct {
		name  string
		only  int
		spoil func(*pair)
	}{
		{"source", 0, second(func(p []byte) { p[offSource+3]++ })},
		{"destination", 0, second(func(p []byte) { p[offDestination+3]++ })},
		{"ports swapped", 0, second(func(p []byte) { p[20], p[21], p[22], p[23] = p[22], p[23], p[20], p[21] })},
		{"source port", 0, second(func(p []byte) { p[21]++ })},
		{"TOS", 0, second(func(p []byte) { p[offTOS] ^= 0x04 })},
		{"ECN mark", 0, second(func(p []byte) { p[offTOS] ^= 0x01 })},
		{"TTL", 0, second(func(p []byte) { p[offTTL]++ })},
		{"DF", 0, second(func(p []byte) { p[offFragment] ^= 0x40 })},
		{"both first fragments", 0, func(p *pair) { p[0][offFragment], p[1][offFragment] = 0x20, 0x20; resum(p[0]); resum(p[1]) }},
		{"both later fragments", 0, func(p *pair) { p[0][offFragment+1], p[1][offFragment+1] = 5, 5; resum(p[0]); resum(p[1]) }},
		{"both with the reserved flag", 0, func(p *pair) { p[0][offFragment], p[1][offFragment] = 0x80, 0x80; resum(p[0]); resum(p[1]) }},
		{"ID without DF", 0, func(p *pair) { p[0][offFragment], p[1][offFragment] = 0, 0; p[1][offID] ^= 1; resum(p[0]); resum(p[1]) }},
		{"first payload damaged", 0, func(p *pair) { p[0][len(p[0])-1]++ }},
		{"second payload damaged", 0, func(p *pair) { p[1][len(p[1])-1]++ }},
		{"first header checksum", 0, func(p *pair) { p[0][offChecksum]++ }},
		{"second header checksum", 0, func(p *pair) { p[1][offChecksum]++ }},
		{"first without payload", 0, func(p *pair) { p[0] = withoutPayload(p[0]) }},
		{"second without payload", 0, func(p *pair) { p[1] = withoutPayload(p[1]) }},
		{"second longer", 0, func(p *pair) { p[0] = shorter(p[0]) }},
		{"other protocol", 0, func(p *pair) { p[0][offProtocol], p[1][offProtocol] = 132, 132; fixChecksum(p[0]); fixChecksum(p[1]) }},
		{"both with IP options", 0, func(p *pair) { p[0], p[1] = withIPOption(p[0]), withIPOption(p[1]) }},
		{"sequence gap", tcpOnly, second(func(p []byte) { p[27]++ })},
		{"retransmission", tcpOnly, func(p *pair) { p[1] = p[0] }},
		{"acknowledgement", tcpOnly, second(func(p []byte) { p[28]++ })},
		{"window", tcpOnly, second(func(p []byte) { p[34]++ })},
		{"urgent pointer", tcpOnly, second(func(p []byte) { p[38]++ })},
		{"option", tcpOnly, second(func(p []byte) { p[40]++ })},
		{"header length", tcpOnly, second(func(p []byte) { p[32] -= 0x10 })},
		{"both with a short header length", tcpOnly, func(p *pair) { p[0][32], p[1][32] = 0x40, 0x40; resum(p[0]); resum(p[1]) }},
		{"both with AE", tcpOnly, func(p *pair) { p[0][32] |= 1; p[1][32] |= 1; resum(p[0]); resum(p[1]) }},
		{"PSH on the first", tcpOnly, func(p *pair) { p[0][33] |= tcpPSH; resum(p[0]) }},
		{"FIN", tcpOnly, second(func(p []byte) { p[33] |= 0x01 })},
		{"SYN", tcpOnly, second(func(p []byte) { p[33] |= 0x02 })},
		{"RST", tcpOnly, second(func(p []byte) { p[33] |= 0x04 })},
		{"URG", tcpOnly, second(func(p []byte) { p[33] |= 0x20 })},
		{"ECE", tcpOnly, second(func(p []byte) { p[33] |= 0x40 })},
		{"CWR", tcpOnly, second(func(p []byte) { p[33] |= 0x80 })},
		{"no ACK", tcpOnly, second(func(p []byte) { p[33] = 0 })},
		{"both with ECE", tcpOnly, func(p *pair) { p[0][33] |= 0x40; p[1][33] |= 0x40; resum(p[0]); resum(p[1]) }},
		{"first without checksum", udpOnly, func(p *pair) { withoutChecksum(p[0]) }},
		{"second without checksum", udpOnly, func(p *pair) { withoutChecksum(p[1]) }},
		{"UDP length too small", udpOnly, second(func(p []byte) { p[25]-- })},
	} {
		for _, tcp := range []bool{true, false} {
			if tt.only == tcpOnly && !tcp || tt.only == udpOnly && tcp {
				continue
			}
			f := newFlow(r, tcp, 1000)
			for f.headersLen != 44 && tcp {
				f = newFlow(r, tcp, 1000)
			}
			p := pair{f.next(100), f.next(100)}
			if runs, _ := mergeAll(p[:]); len(runs) != 1 {
				t.Fatalf("%s, TCP %v: not merged as it was", tt.name, tcp)
			}
			tt.spoil(&p)
			runs, supers := mergeAll(p[:])
			if len(runs) != 2 {
				t.Errorf("%s, TCP %v: merged\n%x\n%x", tt.name, tcp, p[0], p[1])
			}
			checkLegal(t, p[:], runs, supers)
		}
	}
}

// withoutChecksum takes the checksum from a UDP packet of even length and makes its data such that zero looks like a right one.
func withoutChecksum(p []byte) {
	transport := p[minHeaderLen:]
	end := transport[len(transport)-2:]
	transport[offUDPChecksum], transport[offUDPChecksum+1], end[0], end[1] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(end, slowTransportChecksum(p, len(transport), transport))
}

func withoutPayload(p []byte) []byte {
	n := minHeaderLen + udpHeaderLen
	if p[offProtocol] == protocolTCP {
		n = minHeaderLen + tcpHeaderLength(p[minHeaderLen:])
	}
	return cutTo(p, n)
}

func shorter(p []byte) []byte { return cutTo(p, len(p)-1) }

// cutTo returns the first n bytes of a packet as a right packet.
func cutTo(p []byte, n int) []byte {
	p = bytes.Clone(p[:n])
	if p[offProtocol] == protocolUDP {
		binary.BigEndian.PutUint16(p[minHeaderLen+offUDPLength:], uint16(n-minHeaderLen))
	}
	setTotalLength(p)
	setTransportChecksum(p)
	return p
}

func withIPOption(p []byte) []byte {
	p = slices.Concat(p[:minHeaderLen], []byte{1, 1, 1, 0}, p[minHeaderLen:])
	p[0] = 0x46
	setTotalLength(p)
	return p
}

// Bursts of several flows with all that may happen to them on the way. Whatever the runs are, they are legal.
func TestMergeRandomBursts(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 26))
	merged, single := 0, 0
	for range 4000 {
		flows := []*flow{newFlow(r, true, 1000), newFlow(r, true, 1001), newFlow(r, false, 1000), newFlow(r, false, 1001)}
		burst := randomBurst(r, flows)
		runs, supers := mergeAll(burst)
		checkLegal(t, burst, runs, supers)
		for _, n := range runs {
			if n > 1 {
				merged += n
			} else {
				single++
			}
		}
	}
	if merged < 10000 || single < 10000 {
		t.Errorf("%d packets merged and %d not: want many of both", merged, single)
	}
}

func randomBurst(r *rand.Rand, flows []*flow) [][]byte {
	var burst [][]byte
	for range 1 + r.IntN(8) {
		f := flows[r.IntN(len(flows))]
		for range r.IntN(12) {
			burst = append(burst, f.next(f.size))
		}
		if r.IntN(2) == 0 {
			burst = append(burst, f.next(r.IntN(f.size+1)))
		}
	}
	for i := range burst {
		switch r.IntN(40) {
		case 0: // damaged
			burst[i][minHeaderLen+r.IntN(len(burst[i])-minHeaderLen)] ^= 1 << r.IntN(8)
		case 1: // reordered
			j := r.IntN(len(burst))
			burst[i], burst[j] = burst[j], burst[i]
		case 2: // doubled
			burst[i] = bytes.Clone(burst[r.IntN(len(burst))])
		case 3: // pushed
			if burst[i][offProtocol] == protocolTCP {
				burst[i][minHeaderLen+offTCPFlags] |= tcpPSH
				setTransportChecksum(burst[i])
			}
		case 4: // marked
			burst[i][offTOS] |= 3
			fixChecksum(burst[i])
		}
	}
	return burst
}

// FuzzMerge receives any two packets, twice over.
func FuzzMerge(f *testing.F) {
	r := rand.New(rand.NewPCG(27, 28))
	for i := range 6 {
		flow := newFlow(r, i%2 == 0, 1000)
		f.Add(flow.next(50), flow.next(50))
		f.Add(flow.next(50), flow.next(0))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var burst [][]byte
		for _, p := range [][]byte{a, b, b, a} {
			if length, reason := checkHeader(p, len(p)); reason == kept {
				burst = append(burst, p[:length])
			}
		}
		runs, supers := mergeAll(burst)
		checkLegal(t, burst, runs, supers)
	})
}
