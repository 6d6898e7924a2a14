package tunnel

import (
	"net/netip"
	"testing"
)

func TestPeerBroadcast(t *testing.T) {
	for subnet, want := range map[string]netip.Addr{
		"10.5.2.0/24":   netip.MustParseAddr("10.5.2.255"),
		"10.5.3.0/24":   netip.MustParseAddr("10.5.3.255"),
		"10.5.3.128/25": netip.MustParseAddr("10.5.3.255"),
		"10.5.3.4/30":   netip.MustParseAddr("10.5.3.7"),
		"10.0.0.0/8":    netip.MustParseAddr("10.255.255.255"),
		"10.5.3.2/31":   {}, // RFC 3021
		"10.5.3.2/32":   {},
	} {
		if got := NewPeer(netip.MustParsePrefix(subnet), nearEndpoint).broadcast; got != want {
			t.Errorf("the broadcast address of %s is %v, want %v", subnet, got, want)
		}
	}
}
