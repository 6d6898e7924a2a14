package forge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	ownPod  = netip.MustParseAddr("10.5.1.2")
	farPod  = netip.MustParseAddr("10.5.2.2")
	farHost = netip.MustParseAddrPort("198.18.0.2:8285")
	nobody  = netip.MustParseAddr("198.18.0.9")
)

func testGenerator(seed uint64) *Generator {
	return NewGenerator(seed, Addresses{
		Sources:      []netip.Addr{farPod, ownPod},
		Destinations: []netip.Addr{ownPod, farPod, farPod, farHost.Addr(), nobody, netip.MustParseAddr("10.5.2.255")},
		Senders:      []netip.Addr{farHost.Addr(), nobody},
		Underlay:     []netip.AddrPort{farHost},
	})
}

func testRules(check string) Rules {
	return Rules{
		Own:    netip.MustParsePrefix("10.5.1.0/24"),
		Leases: []Lease{{Subnet: netip.MustParsePrefix("10.5.2.0/24"), Endpoint: farHost, Twill: true}},
		Host:   []netip.Addr{netip.MustParseAddr("198.18.0.1")},
		Check:  check,
	}
}

func TestSameSeedSamePackets(t *testing.T) {
	a, b, c := testGenerator(1).Datagrams(500), testGenerator(1).Datagrams(500), testGenerator(2).Datagrams(500)
	for i := range a {
		if !bytes.Equal(a[i].Payload, b[i].Payload) || a[i].From != b[i].From || a[i].Damage != b[i].Damage {
			t.Fatalf("datagram %d differs: %+v and %+v", i, a[i], b[i])
		}
	}
	if len(a) == len(c) && bytes.Equal(a[0].Payload, c[0].Payload) && bytes.Equal(a[1].Payload, c[1].Payload) {
		t.Error("another seed makes the same packets")
	}
}

// What is generated must meet every rule, from both sides.
func TestEveryFateOccurs(t *testing.T) {
	fates := map[string]int{}
	for _, d := range testGenerator(3).Datagrams(5000) {
		fate := testRules("strict").Inbound(d.From.Addr(), d.TOS, d.Payload)
		fates[fmt.Sprintf("in %s%t", fate.Drop, fate.Control)]++
		fates["out "+testRules("strict").Outbound(d.Payload).Drop]++
	}
	for _, want := range []string{
		"in false", "in true", "in controlfalse", "in bad-headerfalse", "in ipv6false", "in unknown-endpointfalse",
		"in spoofed-sourcefalse", "in ecnfalse", "in not-for-usfalse",
		"out ", "out bad-header", "out ipv6", "out foreign-source", "out multicast", "out own-subnet", "out loop", "out no-peer", "out ttl-expired",
	} {
		if fates[want] < 5 {
			t.Errorf("fate %q occurs %d times of 5000", want, fates[want])
		}
	}
}

func TestInbound(t *testing.T) {
	good := ipv4(farPod, ownPod, protoICMP, 1, echo(nil))
	foreign := ipv4(ownPod, ownPod, protoICMP, 1, echo(nil))
	elsewhere := ipv4(farPod, farPod, protoICMP, 1, echo(nil))
	from := func(src string) []byte { return ipv4(netip.MustParseAddr(src), ownPod, protoICMP, 1, echo(nil)) }
	toAll := ipv4(farPod, netip.MustParseAddr("10.5.1.255"), protoICMP, 1, echo(nil))
	for _, test := range []struct {
		check   string
		from    netip.Addr
		payload []byte
		drop    string
	}{
		{"strict", farHost.Addr(), good, ""},
		{"strict", farHost.Addr(), append(bytes.Clone(good), 1), ""},
		{"strict", farHost.Addr(), good[:len(good)-1], "bad-header"},
		{"strict", farHost.Addr(), nil, "bad-header"},
		{"strict", farHost.Addr(), []byte{0}, "control"},
		{"strict", farHost.Addr(), []byte{0x60}, "ipv6"},
		{"strict", nobody, good, "unknown-endpoint"},
		{"strict", farHost.Addr(), foreign, "spoofed-source"},
		{"strict", farHost.Addr(), elsewhere, "not-for-us"},
		{"strict", farHost.Addr(), from("10.5.2.255"), "martian"},
		{"strict", farHost.Addr(), toAll, "multicast"},
		{"source", farHost.Addr(), from("192.0.2.1"), ""},
		{"source", farHost.Addr(), foreign, "martian"},
		{"source", nobody, good, "unknown-endpoint"},
		{"off", nobody, from("192.0.2.1"), ""},
		{"off", nobody, from("10.5.1.0"), "martian"},
		{"off", nobody, from("10.5.2.255"), "martian"},
		{"off", nobody, from("0.0.0.0"), "martian"},
		{"off", nobody, from("127.0.0.1"), "martian"},
		{"off", nobody, from("224.0.0.1"), "martian"},
		{"off", nobody, from("255.255.255.255"), "martian"},
		{"off", nobody, from("198.18.0.1"), "martian"},
		{"off", nobody, foreign, "martian"},
		{"off", nobody, elsewhere, "not-for-us"},
		{"off", nobody, toAll, "multicast"},
	} {
		fate := testRules(test.check).Inbound(test.from, 0, test.payload)
		if fate.Drop != test.drop {
			t.Errorf("%s: %x from %s: %q, want %q", test.check, test.payload, test.from, fate.Drop, test.drop)
		}
		if fate.Drop == "" && len(fate.Packet) != len(good) {
			t.Errorf("%x goes on with %d bytes, want %d", test.payload, len(fate.Packet), len(good))
		}
	}
}

func TestDecapsulated(t *testing.T) {
	for _, test := range []struct {
		inner, outer byte
		twill        bool
		want         byte
		drop         string
	}{
		{0xb8, 0, false, 0xb8, ""},
		{0xb8, 0, true, 0, ""},
		{0, 0xb8, true, 0xb8, ""},
		{ect0, ce, false, ce, ""},
		{ect0, ect1, false, ect1, ""},
		{ect1, ect0, true, ect1, ""},
		{ce, 0, true, ce, ""},
		{0xb8, ce, true, 0, "ecn"},
	} {
		p := ipv4(farPod, ownPod, protoICMP, 7, echo(nil))
		p[offTOS] = test.inner
		fixHeaderChecksum(p)
		fate := decapsulated(p, test.outer, test.twill)
		if fate.Drop != test.drop || test.drop == "" && (fate.Packet[offTOS] != test.want || sum(fate.Packet[:headerLen]) != 0xffff) {
			t.Errorf("%#x in %#x, twill %t: %+v, want %#x %q", test.inner, test.outer, test.twill, fate, test.want, test.drop)
		}
	}
}

// What an answer must be, byte by byte, and when there must be none.
func TestAnswers(t *testing.T) {
	to := func(dst string, change ...func([]byte)) []byte {
		p := ipv4(ownPod, netip.MustParseAddr(dst), protoUDP, 7, udp(netip.AddrPortFrom(ownPod, 1), netip.AddrPortFrom(farPod, 2), make([]byte, 1000)))
		for _, c := range change {
			c(p)
			fixHeaderChecksum(p)
		}
		return p
	}
	set := func(offset int, value byte) func([]byte) { return func(p []byte) { p[offset] = value } }
	wrong := to("10.5.9.2")
	wrong[offChecksum] ^= 1
	rules := testRules("strict")
	rules.Leases[0].PathMTU = 1000
	for _, test := range []struct {
		packet []byte
		want   string // type, code and MTU
	}{
		{to("10.5.9.2"), "3 0 0"},
		{to("198.18.0.2"), "3 0 0"},
		{to("10.5.2.2", set(offTTL, 1)), "11 0 0"},
		{to("10.5.2.2", set(offFragment, 0x40)), "3 4 1000"},
		{to("10.5.2.2"), ""}, // it can be fragmented
		{to("10.5.2.255", set(offTTL, 1)), ""},
		{to("224.0.0.1"), ""},
		{to("10.5.9.2", set(offSource, 127)), ""},
		{to("10.5.9.2", set(offFragment+1, 1)), ""},
		{to("10.5.9.2", set(offFragment, 0x20)), "3 0 0"},
		{to("10.5.9.2", set(offProtocol, protoICMP), set(headerLen, 11)), ""},
		{to("10.5.9.2", set(offProtocol, protoICMP), set(headerLen, 8)), "3 0 0"},
		{wrong, ""},
	} {
		answer := rules.Outbound(test.packet).Answer
		got := ""
		if answer != nil {
			got = fmt.Sprint(answer[20], answer[21], binary.BigEndian.Uint16(answer[26:]))
			src, dst := addresses(answer)
			if src != rules.Own.Addr() || dst != ownPod || len(answer) != 576 || sum(answer[:20]) != 0xffff || sum(answer[20:]) != 0xffff ||
				answer[offTOS] != 0xc0 || !bytes.Equal(answer[28:], test.packet[:548]) {
				t.Errorf("%x is answered %x", test.packet[:28], answer)
			}
		}
		if got != test.want {
			t.Errorf("%x is answered %q, want %q", test.packet[:28], got, test.want)
		}
	}
}

func TestOneHopLess(t *testing.T) {
	p := ipv4(ownPod, farPod, protoICMP, 7, echo(nil))
	fate := testRules("strict").Outbound(p)
	if fate.To != farHost || fate.Packet[offTTL] != 63 || sum(fate.Packet[:headerLen]) != 0xffff {
		t.Errorf("%+v: want TTL 63 and a right checksum, to %s", fate, farHost)
	}
	p[offChecksum] ^= 1
	if out := testRules("strict").Outbound(p).Packet; sum(out[:headerLen]) == 0xffff {
		t.Error("a wrong checksum became right")
	}
}

// A super-packet made of a run by hand must come apart into the run.
func TestSegments(t *testing.T) {
	src, dst := netip.AddrPortFrom(farPod, 1), netip.AddrPortFrom(ownPod, 2)
	payload := []byte("firstsecndlst")
	udpRun := func(i int, data []byte) []byte {
		return ipv4(farPod, ownPod, protoUDP, uint16(9+i), udp(src, dst, data))
	}
	tcpRun := func(i int, data []byte) []byte {
		return ipv4(farPod, ownPod, protoTCP, uint16(9+i), tcp(src, dst, uint32(100+5*i), data))
	}
	for _, test := range []struct {
		kind  byte
		whole []byte
		piece func(int, []byte) []byte
	}{
		{unix.VIRTIO_NET_HDR_GSO_UDP_L4, udpRun(0, payload), udpRun},
		{unix.VIRTIO_NET_HDR_GSO_TCPV4, tcpRun(0, payload), tcpRun},
	} {
		vnet := make([]byte, vnetHeaderLen)
		vnet[0], vnet[1] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, test.kind
		binary.NativeEndian.PutUint16(vnet[4:], 5)
		got, err := segments(append(vnet, test.whole...), 0)
		if err != nil || len(got) != 3 {
			t.Fatalf("type %d: %d segments, %v; want 3", test.kind, len(got), err)
		}
		for i, data := range [][]byte{payload[:5], payload[5:10], payload[10:]} {
			if want := test.piece(i, data); !bytes.Equal(got[i], want) {
				t.Errorf("type %d, segment %d is\n%x, want\n%x", test.kind, i, got[i], want)
			}
		}
	}
}

func TestFragments(t *testing.T) {
	p := ipv4(farPod, ownPod, protoUDP, 3, testGenerator(1).bytes(3000))
	var whole []byte
	for _, piece := range fragments(p, 1500) {
		if len(piece) > 1500 || sum(piece[:headerLen]) != 0xffff {
			t.Errorf("a fragment of %d bytes with checksum sum %04x", len(piece), sum(piece[:headerLen]))
		}
		if at := int(binary.BigEndian.Uint16(piece[offFragment:])&0x1fff) * 8; at != len(whole) {
			t.Errorf("a fragment at %d, want %d", at, len(whole))
		}
		whole = append(whole, piece[headerLen:]...)
	}
	if !bytes.Equal(whole, p[headerLen:]) {
		t.Error("the fragments are not the packet")
	}
}

func TestLedger(t *testing.T) {
	var l Ledger
	l.Due([]byte("a"))
	l.Due([]byte("a"))
	l.Saw([]byte("a"))
	if !l.Owes([]byte("a")) || l.Owes([]byte("b")) {
		t.Error("one of two a is due, and no b")
	}
	if l.Balance() == nil {
		t.Error("one of two was seen, and that is well")
	}
	l.Saw([]byte("a"))
	if err := l.Balance(); err != nil {
		t.Error(err)
	}
	l.Saw([]byte("b"))
	if l.Balance() == nil {
		t.Error("what nobody sent was seen, and that is well")
	}
}
