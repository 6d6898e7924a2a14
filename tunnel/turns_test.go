package tunnel

import (
	"slices"
	"testing"
)

// A loop's number is odd while it is at a burst, and even when it waits.
func TestTurns(t *testing.T) {
	r := newRig(t, SpoofStrict)
	var during []uint64
	r.conn.out = func(*Packet) { during = r.tunnel.Turns() }
	if err := r.out(udpPacket(ownPod, nearPod, 10)); err != nil {
		t.Fatal(err)
	}
	if want := []uint64{1, 0}; !slices.Equal(during, want) {
		t.Errorf("while the outbound loop sends: %d, want %d", during, want)
	}
	if got, want := r.tunnel.Turns(), []uint64{2, 0}; !slices.Equal(got, want) {
		t.Errorf("afterwards: %d, want %d", got, want)
	}
}
