package tunnel

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"
)

// TestTableInForceAtNextBurst changes the table while bursts come without a pause: whatever the device hands over after SetTable has
// returned goes to the new peer.
func TestTableInForceAtNextBurst(t *testing.T) {
	r := newRig(t, SpoofStrict)
	peers := [2]*Peer{NewPeer(farSubnet, nearEndpoint), NewPeer(farSubnet, farEndpoint)}
	tables := [2]*Table{NewTable(ownSubnet, peers[:1]), NewTable(ownSubnet, peers[1:])}
	var last [2]atomic.Uint32 // the latest burst that went to each peer
	r.conn.out = func(p *Packet) {
		i := 0
		if p.Peer == peers[1] {
			i = 1
		}
		last[i].Store(binary.BigEndian.Uint32(p.Head[minHeaderLen+udpHeaderLen:]))
	}
	r.tunnel.SetTable(tables[0])

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.tunnel.Run(ctx) }()
	var handed atomic.Uint32 // bursts that the device has handed over, or is about to
	go func() {
		for ctx.Err() == nil {
			packet := udpPacket(ownPod, farPod, 64)
			binary.BigEndian.PutUint32(packet[minHeaderLen+udpHeaderLen:], handed.Add(1))
			select {
			case r.queue.in <- fill([][]byte{packet}):
			case <-ctx.Done():
			}
		}
	}()

	for change := 1; change <= 200; change++ {
		to := change % 2
		r.tunnel.SetTable(tables[to])
		before := handed.Load()
		deadline := time.Now().Add(10 * time.Second)
		for last[to].Load() < before+2 {
			if time.Now().After(deadline) {
				t.Fatalf("change %d: nothing goes to the new peer after burst %d", change, before)
			}
			time.Sleep(10 * time.Microsecond) // leaves the processor to the bursts
		}
		if old := last[1-to].Load(); old > before {
			t.Fatalf("change %d: burst %d went to the old peer, the change was before burst %d", change, old, before+1)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
