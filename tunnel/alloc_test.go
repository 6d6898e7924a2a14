package tunnel

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Neither direction allocates: not for packets that pass, nor for drops, nor for ICMP errors, nor for refused packets.
func TestBurstsDoNotAllocate(t *testing.T) {
	r := newRig(t, SpoofStrict)
	refused := 0
	r.conn.refuse = func(p *Packet) error {
		if p.Peer == r.far {
			refused++
			return unix.EMSGSIZE
		}
		return nil
	}
	r.queue.refuse = func(packet []byte) error {
		if len(packet) == 29 {
			refused++
			return unix.EIO
		}
		return nil
	}
	probe := make([]byte, 100)
	(&controlDatagram{typ: controlProbe, subnet: nearSubnet}).put(probe)
	packets := fill([][]byte{
		edit(udpPacket(ownPod, nearPod, 1400), offFragment, 0x40),
		udpPacket(ownPod, nearPod, 1400),
		udpPacket(ownPod, farPod, 64),
		udpPacket(ownPod, nobodysPod, 1400),
		edit(udpPacket(ownPod, nearPod, 64), offTTL, 1),
		{0x60},
	})
	datagrams := fill([]Datagram{
		{Data: udpPacket(nearPod, ownPod, 1400), From: nearEndpoint},
		{Data: udpPacket(farPod, ownPod, 64), From: farEndpoint},
		{Data: udpPacket(farPod, ownPod, 64), From: nearEndpoint},
		{Data: udpPacket(nearPod, ownPod, 1), From: nearEndpoint},
		{Data: nil, From: nearEndpoint},
		{Data: []byte{1}, From: nearEndpoint},
		{Data: probe, From: nearEndpoint}, // more than the prober takes
		{Data: probe, From: farEndpoint},
		{Data: udpPacket(nearPod, ownPod, 64), From: netip.MustParseAddrPort("198.18.0.99:8285")},
	})
	near := NewTwillPeer(nearSubnet, nearEndpoint)
	near.limit.Store(1000)
	r.tunnel.SetTable(NewTable(ownSubnet, []*Peer{near, r.far}))
	// Without the limit each unreachable and expired packet is answered.
	r.tunnel.lanes[0].outbound.icmp.unlimited()
	checkNoAllocs(t, "outbound", func() error { return r.out(packets...) })
	checkNoAllocs(t, "inbound", func() error { return r.in(datagrams...) })

	s := r.tunnel.Stats()
	if s.Tx.Drops[DropTooBig] == 0 || s.Rx.Drops[DropControlLimit] == 0 || s.ICMPErrors == 0 || refused == 0 || s.Tx.Packets == 0 || s.Rx.Packets == 0 {
		t.Errorf("some path was not taken: %d refused, %+v", refused, s)
	}
}

// Nor does the way of super-packets, through the split and back through the merger.
func TestSuperPacketsDoNotAllocate(t *testing.T) {
	r := newRig(t, SpoofStrict)
	r.tunnel.SetTable(NewTable(ownSubnet, []*Peer{NewTwillPeer(nearSubnet, nearEndpoint)}))
	out := r.tunnel.lanes[0].outbound
	out.ports = 4
	s := largeSuper(100) // more segments than a batch has room for at the end
	packets := make([]Packet, 4)
	checkNoAllocs(t, "outbound", func() error {
		copy(s.head, s.packet)
		copy(packets, []Packet{{Head: s.work, Offload: s.vnet}, {Head: s.work}, {Head: s.work}, {Head: s.packet, Offload: vnetHeader{gsoType: 9}}})
		err := out.send(out.forward(packets))
		out.tally.flush(&out.totals)
		return err
	})
	if tx := r.tx(); tx.Packets == 0 || tx.Drops[DropBadOffload] == 0 {
		t.Errorf("some path was not taken: %+v", tx)
	}
}

// fill repeats the elements of s until it is a whole burst.
func fill[T any](s []T) []T {
	full := make([]T, burstSize)
	for i := range full {
		full[i] = s[i%len(s)]
	}
	return full
}

func checkNoAllocs(t *testing.T, what string, burst func() error) {
	t.Helper()
	var err error
	allocs := testing.AllocsPerRun(200, func() {
		if e := burst(); e != nil {
			err = e
		}
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if allocs > 0 {
		t.Errorf("%s: %v allocations a burst, want 0", what, allocs)
	}
}
