package tunnel

import (
	"net/netip"
	"testing"
)

// A trace tells what happens to the packet itself when it is sent.
func TestTraceIsThePacketPath(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	r.far.limit.Store(1000)
	for _, tt := range []struct {
		src, dst netip.Addr
		length   int
		df       bool
		want     Trace
	}{
		{ownPod, nearPod, 1400, true, Trace{Peer: r.near}},
		{ownPod, farPod, 1000, true, Trace{Peer: r.far, Limit: 1000}},
		{ownPod, farPod, 1001, true, Trace{Peer: r.far, Limit: 1000, Dropped: DropTooBig}},
		{ownPod, farPod, 1001, false, Trace{Peer: r.far, Limit: 1000, Fragments: true}},
		{ownPod, nobodysPod, 100, true, Trace{Dropped: DropNoPeer}},
		{ownPod, nearEndpoint.Addr(), 100, true, Trace{Dropped: DropLoop}},
		{ownPod, ownAddr.Next(), 100, true, Trace{Dropped: DropOwnSubnet}},
		{ownPod, netip.MustParseAddr("224.0.0.1"), 100, true, Trace{Dropped: DropMulticast}},
		{nobodysPod, nearPod, 100, true, Trace{Dropped: DropForeignSource}},
	} {
		got, err := r.tunnel.Trace(tt.src, tt.dst, tt.length, tt.df)
		if err != nil || got != tt.want {
			t.Errorf("%s to %s, %d bytes: %+v, %v; want %+v", tt.src, tt.dst, tt.length, got, err, tt.want)
		}
		before := r.tx()
		if before.Packets+before.Dropped() != 0 {
			t.Fatalf("a trace was counted: %+v", before)
		}
	}
	sent := len(r.sent)
	for _, tt := range []struct{ src, dst netip.Addr }{{ownPod, nearPod}, {nobodysPod, nearPod}, {ownPod, nobodysPod}} {
		v, err := r.tunnel.Trace(tt.src, tt.dst, 100, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.out(tracePacket(tt.src, tt.dst, 100, true)); err != nil {
			t.Fatal(err)
		}
		if went := len(r.sent) > sent; went != (v.Dropped == kept) {
			t.Errorf("%s to %s: sent is %t, the trace says %v", tt.src, tt.dst, went, v.Dropped)
		}
		sent = len(r.sent)
	}
}

func TestTraceRefuses(t *testing.T) {
	r := newRig(t, SpoofStrict)
	for _, length := range []int{27, maxPacket + 1} {
		if _, err := r.tunnel.Trace(ownPod, nearPod, length, false); err == nil {
			t.Errorf("%d bytes were traced", length)
		}
	}
	if _, err := r.tunnel.Trace(netip.MustParseAddr("fd00::1"), nearPod, 100, false); err == nil {
		t.Error("an IPv6 source was traced")
	}
}
