package tunnel

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The error queue tells that nobody listens at a port, and who said so.
func TestRefusalOfAPort(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	var s socket
	newNamespace(t).do(t, func() (err error) {
		s, err = openInquiring(loopback)
		return err
	})
	defer s.Close()
	to := netip.AddrPortFrom(loopback, 9)
	if _, err := s.WriteToUDPAddrPort(make([]byte, controlLen), to); err != nil {
		t.Fatal(err)
	}
	var got Refusal
	waitFor(t, "ICMP port unreachable", func() bool {
		s.refusals(time.Now(), func(at netip.AddrPort, r Refusal) {
			if at != to {
				t.Errorf("about a datagram to %s, want %s", at, to)
			}
			got = r
		})
		return !got.At.IsZero()
	})
	if got.Err != unix.ECONNREFUSED || got.Type != 3 || got.Code != 3 || got.From != loopback || got.Prohibited() {
		t.Errorf("%+v, want ICMP 3, 3 from %s", got, loopback)
	}
}

// What is too short, or about the path MTU, is no refusal.
func TestParseExtendedErr(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 15), append([]byte{byte(unix.EMSGSIZE)}, make([]byte, 31)...)} {
		if r, ok := parseExtendedErr(b); ok {
			t.Errorf("%x was taken for %+v", b, r)
		}
	}
	if r, ok := parseExtendedErr(append([]byte{byte(unix.EPERM)}, make([]byte, 15)...)); !ok || r.Err != unix.EPERM || r.From.IsValid() {
		t.Errorf("a local error was read as %+v, %t", r, ok)
	}
}

// What the network says about a peer counts while it does not answer.
func TestRefusalCountsUntilAnswer(t *testing.T) {
	p := newProberPair(t)
	p.run(5*time.Second, true)
	q := p.a.tunnel.asker
	q.waiting[nearEndpoint] = inquiry{peer: p.a.near, sent: p.now}
	q.take(nearEndpoint, Refusal{Err: unix.ECONNREFUSED, At: p.now})
	if s := p.stats(); !s.Inquired || s.Refusal.Err != unix.ECONNREFUSED {
		t.Errorf("noted as %+v", s.Refusal)
	}
	q.waiting[nearEndpoint] = inquiry{peer: p.a.near, sent: p.now}
	q.look(p.now.Add(inquiryTimeout))
	if s := p.stats(); !s.Inquired || s.Refusal.Err == nil || len(q.waiting) != 0 {
		t.Errorf("after silence: %+v, %d waited for", s.Refusal, len(q.waiting))
	}
	p.a.near.path.Load().refusal.At = time.Now().Add(-2 * refusalStays)
	q.waiting[nearEndpoint] = inquiry{peer: p.a.near, sent: p.now}
	q.look(p.now.Add(inquiryTimeout))
	if s := p.stats(); !s.Inquired || s.Refusal.Err != nil {
		t.Errorf("after a long silence: %+v", s.Refusal)
	}
	p.run(5*time.Second, true)
	if s := p.stats(); s.Inquired {
		t.Error("the peer answers, and what the network said still counts")
	}
}

// The prober has the network asked about peers that do not answer, and about no others.
func TestInquiryIsAboutSilentPeers(t *testing.T) {
	p := newProberPair(t)
	p.run(20*time.Second, true)
	if n := len(p.a.tunnel.asker.peers); n != 0 {
		t.Errorf("%d inquiries about a peer that answers", n)
	}
	p.lost = func(bool, int) bool { return true }
	p.run(20*time.Second, true)
	if n := len(p.a.tunnel.asker.peers); n == 0 {
		t.Error("no inquiry about a peer that does not answer")
	}
	if s := p.stats(); p.now.Sub(s.UnansweredSince) < 10*time.Second {
		t.Errorf("silent since %v, now is %v", s.UnansweredSince, p.now)
	}
}
