package tunnel

import (
	"net/netip"
	"testing"
	"time"
)

func TestLastSighting(t *testing.T) {
	var s lastSighting
	if got := s.load(); got != (Sighting{}) {
		t.Errorf("before anything was seen: %v", got)
	}
	want := Sighting{From: netip.MustParseAddr("255.1.2.3"), At: time.Unix(4_000_000_000, 0)} // past 31 bits
	s.note(want.From, want.At)
	if got := s.load(); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Who sends without a lease is told, and who uses the name of a peer from elsewhere.
func TestStrangersAreSeen(t *testing.T) {
	r := newRig(t, SpoofStrict)
	now := time.Unix(1_000_000_000, 0)
	r.tunnel.lanes[0].inbound.now = func() time.Time { return now }
	near := NewTwillPeer(nearSubnet, nearEndpoint)
	r.tunnel.SetTable(NewTable(ownSubnet, []*Peer{near, r.far}))
	probe := make([]byte, controlLen)
	(&controlDatagram{typ: controlProbe, subnet: nearSubnet}).put(probe)

	if err := r.in(Datagram{Data: probe, From: nearEndpoint}, Datagram{Data: udpPacket(nearPod, ownPod, 1), From: nearEndpoint}); err != nil {
		t.Fatal(err)
	}
	if got := r.tunnel.Stats().Stranger; got != (Sighting{}) {
		t.Errorf("a stranger %v among peers", got)
	}
	if got := near.Stats().Claimed; got != (Sighting{}) {
		t.Errorf("the peer's own datagram came from elsewhere, %v", got)
	}

	stranger := netip.MustParseAddrPort("198.18.0.99:8285")
	if err := r.in(Datagram{Data: udpPacket(nearPod, ownPod, 1), From: stranger}, Datagram{Data: udpPacket(nearPod, ownPod, 1), From: nearEndpoint}); err != nil {
		t.Fatal(err)
	}
	if got, want := r.tunnel.Stats().Stranger, (Sighting{stranger.Addr(), now}); got != want {
		t.Errorf("the stranger is %v, want %v", got, want)
	}
	for _, from := range []netip.AddrPort{stranger, farEndpoint} { // no lease's, and another peer's
		if err := r.in(Datagram{Data: probe, From: from}); err != nil {
			t.Fatal(err)
		}
		if got, want := near.Stats().Claimed, (Sighting{from.Addr(), now}); got != want {
			t.Errorf("the peer's subnet is claimed by %v, want %v", got, want)
		}
	}
	if got := r.far.Stats().Claimed; got != (Sighting{}) {
		t.Errorf("the subnet of another peer is claimed by %v", got)
	}
}
