package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twill/internal/api"
	"twill/subnet"
	"twill/tunnel"
)

// What arrives from a peer, and what the network says, tell why it does not answer.
func TestUnreachable(t *testing.T) {
	now := time.Now()
	peer := &subnet.Peer{Lease: subnet.Lease{Value: subnet.Value{Node: "node2"}}, Endpoint: netip.MustParseAddrPort("192.0.2.2:8285")}
	own, router := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.254")
	away := func(path tunnel.PathStats, seen time.Duration) tunnel.PeerStats {
		path.ProbesSent, path.Unanswered, path.UnansweredSince = 9, 7, now.Add(-20*time.Second)
		s := tunnel.PeerStats{Path: path}
		if seen != 0 {
			s.LastSeen = now.Add(-seen)
		}
		return s
	}
	claimed := func(ago time.Duration) tunnel.PeerStats {
		s := away(tunnel.PathStats{Inquired: true}, 0)
		s.Claimed = tunnel.Sighting{From: router, At: now.Add(-ago)}
		return s
	}
	says := func(err unix.Errno, typ, code uint8, from netip.Addr) tunnel.PathStats {
		return tunnel.PathStats{Inquired: true, Refusal: tunnel.Refusal{Err: err, Type: typ, Code: code, From: from, At: now}}
	}
	for _, tt := range []struct {
		name            string
		stats           tunnel.PeerStats
		code            string
		problem, remedy string // a part of each
	}{
		{"not asked yet", away(tunnel.PathStats{}, 0), api.ReasonUnknown, "nothing was ever heard", "twill runs on node2"},
		{"silence", away(tunnel.PathStats{Inquired: true}, 25*time.Second), api.ReasonDropped, "nothing heard for 25s, and the network says nothing", "twill peers"},
		{"one way", away(tunnel.PathStats{Inquired: true}, 5*time.Second), api.ReasonOneWay, "what we send does not reach it", "192.0.2.2:8285"},
		{"heard at the beginning only", away(tunnel.PathStats{Inquired: true}, 19500*time.Millisecond), api.ReasonDropped, "nothing heard for 20s", ""},
		{"nobody listens", away(says(unix.ECONNREFUSED, 3, 3, peer.Endpoint.Addr()), 25*time.Second), api.ReasonDaemon, "nobody listens on UDP port 8285", "systemctl start twill"},
		{"rejected on the way", away(says(unix.ECONNREFUSED, 3, 3, router), 25*time.Second), api.ReasonForbidden, "a firewall at 192.0.2.254", "192.0.2.2:8285"},
		{"no ARP", away(says(unix.EHOSTUNREACH, 3, 1, own), 25*time.Second), api.ReasonHost, "no host answers at 192.0.2.2", "has its link"},
		{"prohibited", away(says(unix.EHOSTUNREACH, 3, 13, router), 25*time.Second), api.ReasonForbidden, "a firewall at 192.0.2.254", "192.0.2.2:8285"},
		{"no route", away(says(unix.ENETUNREACH, 0, 0, netip.Addr{}), 0), api.ReasonRoute, "no route", "ip route get 192.0.2.2"},
		{"own output", away(says(unix.EPERM, 0, 0, netip.Addr{}), 0), api.ReasonForbidden, "a rule of this host", "OUTPUT"},
		{"full queue", away(says(unix.ENOBUFS, 0, 0, netip.Addr{}), 25*time.Second), api.ReasonNoBuffers, "the queue of its interface is full", "tc -s qdisc"},
		{"no memory", away(says(unix.ENOMEM, 0, 0, netip.Addr{}), 25*time.Second), api.ReasonNoBuffers, "its memory is short", "ip route get 192.0.2.2"},
		{"wrong address", claimed(5 * time.Second), api.ReasonAddress, "come from 192.0.2.254", "--public-ip"},
		{"was at another address", claimed(time.Hour), api.ReasonDropped, "nothing was ever heard", ""},
	} {
		got := unreachable(peer, &tt.stats, now)
		if got.Code != tt.code || !strings.Contains(got.Problem, tt.problem) || !strings.Contains(got.Remedy, tt.remedy) || got.Remedy == "" {
			t.Errorf("%s: %+v; want code %s, %q, %q", tt.name, got, tt.code, tt.problem, tt.remedy)
		}
	}
}
