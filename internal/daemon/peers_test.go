package daemon

import (
	"strings"
	"testing"
	"time"

	"twill/internal/api"
	"twill/subnet"
	"twill/tunnel"
)

func TestPeerState(t *testing.T) {
	now := time.Now()
	twill, flannel, vanished := &subnet.Peer{}, &subnet.Peer{}, &subnet.Peer{Vanished: now}
	twill.Proto, vanished.Proto = 1, 1
	seen := func(ago time.Duration, path tunnel.PathStats) tunnel.PeerStats {
		return tunnel.PeerStats{LastSeen: now.Add(-ago), Path: path}
	}
	away := tunnel.PathStats{ProbesSent: 9, ProbesAnswered: 2, Unanswered: 7}
	for _, tt := range []struct {
		name   string
		peer   *subnet.Peer
		stats  tunnel.PeerStats
		state  api.PeerState
		reason string // a part of it
	}{
		{"new", twill, tunnel.PeerStats{}, api.StateSilent, "not probed"},
		{"answers", twill, seen(time.Second, tunnel.PathStats{ProbesSent: 3, ProbesAnswered: 3}), api.StateUp, ""},
		{"one probe lost", twill, seen(time.Second, tunnel.PathStats{ProbesSent: 3, ProbesAnswered: 2, Unanswered: 1}), api.StateUp, ""},
		{"gone", twill, seen(time.Minute, away), api.StateUnreachable, "no answer to 7 probes, and nothing heard for 1m0s"},
		{"never there", twill, tunnel.PeerStats{Path: tunnel.PathStats{ProbesSent: 4, Unanswered: 4}}, api.StateUnreachable, "nothing was ever heard"},
		{"only heard", twill, seen(time.Second, away), api.StateUnreachable, "what we send does not reach it"},
		{"Flannel", flannel, seen(time.Minute, tunnel.PathStats{}), api.StateUp, ""},
		{"Flannel, silent", flannel, seen(time.Hour, tunnel.PathStats{}), api.StateSilent, "runs Flannel"},
		{"vanished", vanished, seen(time.Second, tunnel.PathStats{}), api.StateVanished, "its lease is gone"},
	} {
		state, reason := peerState(tt.peer, &tt.stats, now)
		if state != tt.state || !strings.Contains(reason, tt.reason) || (reason == "") != (tt.state == api.StateUp) {
			t.Errorf("%s: %s, %q; want %s, %q", tt.name, state, reason, tt.state, tt.reason)
		}
	}
}

// What is not known is absent, not 0.
func TestReportPeer(t *testing.T) {
	a := reportPeer(&subnet.Peer{}, tunnel.PeerStats{}, 1472, time.Now())
	if a.RTT != nil || a.Loss != nil || a.LossIn != nil || a.LossOut != nil || a.ClockAhead != nil || a.PathMTU != 1472 {
		t.Errorf("an unknown peer is told as %+v", a)
	}
	stats := tunnel.PeerStats{Path: tunnel.PathStats{
		ProbesSent: 4, ProbesAnswered: 3, RTT: time.Millisecond, Loss: tunnel.Loss{Lost: 1, Sent: 4}, LossOut: tunnel.Loss{Sent: 10}, MTU: 1400,
	}}
	a = reportPeer(&subnet.Peer{}, stats, 1472, time.Now())
	if a.RTT == nil || a.RTT.Smoothed != 0.001 || *a.Loss != 0.25 || *a.LossOut != 0 || a.LossIn != nil || a.PathMTU != 1400 {
		t.Errorf("a known peer is told as %+v", a)
	}
}
