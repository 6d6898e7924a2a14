package tunnel

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"

	"twill/internal/forge"
)

func randomControl(r *rand.Rand) controlDatagram {
	bits := r.IntN(33)
	addr := netip.AddrFrom4([4]byte(randomBytes(r, 4)))
	return controlDatagram{
		typ:     byte(1 + r.IntN(2)),
		flags:   byte(r.IntN(2)),
		subnet:  netip.PrefixFrom(addr, bits).Masked(),
		id:      r.Uint64(),
		time:    int64(r.Uint64()),
		hold:    r.Int64(),
		session: r.Uint64(),
		tx:      r.Uint64(),
		rx:      r.Uint64(),
		size:    r.Uint32(),
	}
}

func TestControlRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		want := randomControl(r)
		b := randomBytes(r, controlLen+r.IntN(2000))
		want.put(b)
		if got, ok := parseControl(b); !ok || got != want {
			t.Fatalf("%+v became %+v, %v", want, got, ok)
		}
		if !isControl(b) || !bytes.Equal(b[60:], make([]byte, len(b)-60)) {
			t.Fatalf("not a control datagram with zeros behind it: %x", b)
		}
	}
}

func TestParseControlRefuses(t *testing.T) {
	good := make([]byte, controlLen)
	c := controlDatagram{typ: controlProbe, subnet: nearSubnet}
	c.put(good)
	for name, spoil := range map[string]func(b []byte) []byte{
		"nothing":         func([]byte) []byte { return nil },
		"cut":             func(b []byte) []byte { return b[:controlLen-1] },
		"version 0":       func(b []byte) []byte { b[0] = 0; return b },
		"version 2":       func(b []byte) []byte { b[0] = 2; return b },
		"IPv4":            func(b []byte) []byte { b[0] = 0x41; return b },
		"type 0":          func(b []byte) []byte { b[1] = 0; return b },
		"type 3":          func(b []byte) []byte { b[1] = 3; return b },
		"a subnet of /33": func(b []byte) []byte { b[3] = 33; return b },
		"host bits":       func(b []byte) []byte { b[7] = 1; return b },
		"negative hold":   func(b []byte) []byte { b[24] = 0x80; return b },
	} {
		if got, ok := parseControl(spoil(bytes.Clone(good))); ok {
			t.Errorf("%s: got %+v, want none", name, got)
		}
	}
}

// FuzzControl receives any bytes as a control datagram of a twill peer. It is heard or dropped as the slow twin of the rules says; what is
// heard is read as it is written; a probe is answered with one reply of the fixed size, a reply with nothing; and nothing that was not
// asked for changes what is known of the path.
func FuzzControl(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		c := randomControl(r)
		b := make([]byte, controlLen)
		c.put(b)
		f.Add(b)
	}
	f.Add([]byte{1})
	near := NewTwillPeer(nearSubnet, nearEndpoint)
	rules := forge.Rules{Own: ownSubnet, Leases: []forge.Lease{{Subnet: nearSubnet, Endpoint: nearEndpoint, Twill: true}}, Check: "strict"}
	rig := newRig(f, SpoofStrict).record()
	rig.tunnel.SetTable(NewTable(ownSubnet, []*Peer{near}))
	prober := rig.tunnel.prober
	prober.replies.interval = 0
	prober.pathOf(near).replies.interval = 0
	var answers [][]byte
	rig.conn.control = func(data []byte, to netip.AddrPort) {
		if to != nearEndpoint {
			f.Errorf("answer to %s, want %s", to, nearEndpoint)
		}
		answers = append(answers, bytes.Clone(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !isControl(data) || len(data) > maxPacket {
			return
		}
		answers = nil
		before := rig.rx()
		if err := rig.in(Datagram{Data: data, From: nearEndpoint}); err != nil {
			t.Fatal(err)
		}
		after, want := rig.rx(), rules.Inbound(nearEndpoint.Addr(), 0, data)
		if dropped, n := dropsSince(&before.Drops, &after.Drops); dropped != want.Drop || n > 1 {
			t.Fatalf("%x dropped as %q, want %q", data, dropped, want.Drop)
		}
		if heard := len(prober.received) == 1; heard != want.Control {
			t.Fatalf("%x heard: %v, want %v", data, heard, want.Control)
		}
		if !want.Control {
			return
		}
		m := <-prober.received
		prober.receive(&m)
		b := make([]byte, controlLen)
		if m.put(b); !bytes.Equal(b[:60], data[:60]) {
			t.Errorf("%x became %x", data, b)
		}
		switch {
		case data[1] == controlReply && len(answers) > 0:
			t.Errorf("a reply is answered %x", answers)
		case data[1] == controlProbe:
			if len(answers) != 1 || len(answers[0]) != controlLen || answers[0][1] != controlReply || !bytes.Equal(answers[0][8:16], data[8:16]) {
				t.Errorf("the probe %x is answered %x", data, answers)
			}
		}
		if s := near.Stats(); s.Path.ProbesAnswered != 0 || s.Path.RTT != 0 || s.Path.MTU != 0 {
			t.Errorf("%x, which nobody asked for, changed the path to %+v", data, s.Path)
		}
	})
}
