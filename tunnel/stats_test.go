package tunnel

import (
	"testing"
	"time"
)

func TestBurstCounter(t *testing.T) {
	var c burstCounter
	for _, n := range []int{0, 1, 2, 3, 4, 5, 64, 65, 128} {
		c.count(n)
	}
	want := Bursts{Sizes: [burstSizes]uint64{1, 1, 2, 1, 0, 0, 1, 2}, Packets: 1 + 2 + 3 + 4 + 5 + 64 + 65 + 128}
	if got := c.load(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if most := 1 << (burstSizes - 1); most < 2*burstSize {
		t.Errorf("the last size is %d, and a burst has up to %d packets", most, 2*burstSize)
	}
}

// Each burst is counted once, with what it brought, whatever becomes of the packets.
func TestBurstsAreCounted(t *testing.T) {
	r := newRig(t, SpoofStrict)
	out, in := udpPacket(ownPod, nearPod, 10), udpPacket(nearPod, ownPod, 10)
	for range 2 {
		if err := r.out(out, out, udpPacket(ownPod, nobodysPod, 10)); err != nil {
			t.Fatal(err)
		}
		if err := r.in(fill([]Datagram{{Data: in, From: nearEndpoint}, {}})[:2]...); err != nil {
			t.Fatal(err)
		}
	}
	s := r.tunnel.Stats()
	for name, got := range map[string]struct{ bursts, want Bursts }{
		"reads":    {s.Reads, Bursts{Sizes: [burstSizes]uint64{2: 2}, Packets: 6}},
		"sends":    {s.Sends, Bursts{Sizes: [burstSizes]uint64{1: 2}, Packets: 4}},
		"receives": {s.Receives, Bursts{Sizes: [burstSizes]uint64{1: 2}, Packets: 4}},
	} {
		if got.bursts != got.want {
			t.Errorf("%s: %+v, want %+v", name, got.bursts, got.want)
		}
	}
}

func TestDropDirections(t *testing.T) {
	for reason := range DropReasons() {
		outbound, inbound := reason.Directions()
		if !outbound && !inbound {
			t.Errorf("%v happens in no direction", reason)
		}
	}
	for reason, want := range map[DropReason][2]bool{
		DropNoTable: {true, true}, DropIPv6: {true, true},
		DropBadOffload: {true, false}, DropSendFailed: {true, false},
		DropTruncated: {false, true}, DropWriteFailed: {false, true},
	} {
		if outbound, inbound := reason.Directions(); outbound != want[0] || inbound != want[1] {
			t.Errorf("%v: outbound %v, inbound %v", reason, outbound, inbound)
		}
	}
	for reason := range outboundReasons {
		if outbound, _ := reason.Directions(); !outbound {
			t.Errorf("%v is no outbound reason, and TestOutboundDrops had it", reason)
		}
	}
	for reason := range inboundReasons {
		if _, inbound := reason.Directions(); !inbound {
			t.Errorf("%v is no inbound reason, and TestInboundDrops had it", reason)
		}
	}
}

// observed keeps what an Observer is told.
type observed struct {
	probes  int
	rtts    []time.Duration
	out, in []Loss
}

func (o *observed) ProbeSent()                  { o.probes++ }
func (o *observed) RoundTrip(rtt time.Duration) { o.rtts = append(o.rtts, rtt) }
func (o *observed) Losses(out, in Loss)         { o.out, o.in = append(o.out, out), append(o.in, in) }

// Each reply is observed once, and each window of the loss once, with what was lost in it and not before.
func TestObserver(t *testing.T) {
	p := newProberPair(t)
	var o observed
	p.a.tunnel.prober.observer = &o
	p.run(20*time.Second, true)
	p.lost = func(fromA bool, size int) bool { return fromA && size == 100 } // packets, not control datagrams
	p.run(20*time.Second, true)
	p.lost = func(bool, int) bool { return false }
	p.run(60*time.Second, true)

	s := p.stats()
	if o.probes != int(s.ProbesSent) || len(o.rtts) != int(s.ProbesAnswered) || len(o.rtts) < 50 {
		t.Errorf("%d probes, %d replies observed; want %d, %d", o.probes, len(o.rtts), s.ProbesSent, s.ProbesAnswered)
	}
	for _, rtt := range o.rtts {
		if rtt != 2*p.delay {
			t.Errorf("round trip %v, want %v", rtt, 2*p.delay)
		}
	}
	if n := len(o.out); n < 5 || n > 7 {
		t.Fatalf("%d windows in 100 s, want one each %v", n, lossWindow)
	}
	lossy := 0
	for i := range o.out {
		if o.out[i].Lost > 0 {
			lossy++
		}
		if o.in[i].Lost > 0 {
			t.Errorf("window %d: %+v lost on the way in", i, o.in[i])
		}
	}
	if lossy != 2 || o.out[0].Lost > 0 || o.out[len(o.out)-1].Lost > 0 {
		t.Errorf("losses out %+v: want them in two windows in a row", o.out)
	}
}
