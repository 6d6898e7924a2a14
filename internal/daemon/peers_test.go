package daemon

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"twill/internal/api"
	"twill/subnet"
	"twill/tunnel"
)

func TestPeerState(t *testing.T) {
	now := time.Now()
	away := tunnel.PathStats{ProbesSent: 9, ProbesAnswered: 2, Unanswered: 7}
	twill, flannel, vanished, newer := &subnet.Peer{}, &subnet.Peer{}, &subnet.Peer{Vanished: now}, &subnet.Peer{}
	twill.Proto, vanished.Proto, newer.Proto = 1, 1, subnet.ProtoVersion+1
	twill.Endpoint = netip.MustParseAddrPort("198.18.0.3:8285")
	claimed := func(ago time.Duration) tunnel.PeerStats {
		return tunnel.PeerStats{Path: away, Claimed: tunnel.Sighting{From: netip.MustParseAddr("198.18.0.7"), At: now.Add(-ago)}}
	}
	seen := func(ago time.Duration, path tunnel.PathStats) tunnel.PeerStats {
		return tunnel.PeerStats{LastSeen: now.Add(-ago), Path: path}
	}
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
		{"gone", twill, seen(time.Minute, away), api.StateUnreachable, "no answer to 7 probes, nothing heard for 1m0s"},
		{"never there", twill, tunnel.PeerStats{Path: tunnel.PathStats{ProbesSent: 4, Unanswered: 4}}, api.StateUnreachable, "nothing was ever heard"},
		{"only heard", twill, seen(time.Second, away), api.StateUnreachable, "what we send does not reach it"},
		{"elsewhere", twill, claimed(time.Second), api.StateUnreachable, "come from 198.18.0.7 and are not accepted"},
		{"long ago elsewhere", twill, claimed(time.Hour), api.StateUnreachable, "nothing was ever heard"},
		{"newer", newer, seen(time.Minute, away), api.StateIncompatible, "control protocol 2"},
		{"newer, but it answers", newer, seen(time.Second, tunnel.PathStats{ProbesSent: 3, ProbesAnswered: 3}), api.StateUp, ""},
		{"Flannel", flannel, seen(time.Minute, tunnel.PathStats{}), api.StateUp, ""},
		{"Flannel, silent", flannel, seen(time.Hour, tunnel.PathStats{}), api.StateSilent, "runs Flannel"},
		{"vanished", vanished, seen(time.Second, tunnel.PathStats{}), api.StateVanished, "its lease is gone"},
	} {
		state := peerState(tt.peer, &tt.stats, now)
		reason, remedy := peerReason(tt.peer, &tt.stats, state, now)
		if up := tt.state == api.StateUp; state != tt.state || !strings.Contains(reason, tt.reason) || (reason == "") != up || (remedy == "") != up {
			t.Errorf("%s: %s, %q, %q; want %s, %q and what to do", tt.name, state, reason, remedy, tt.state, tt.reason)
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

// A lease that is not used is told with what could be read of it, and survives JSON.
func TestReportSkipped(t *testing.T) {
	var poison subnet.Lease
	poison.Name = "no subnet"
	for _, l := range []subnet.Lease{poison, {Name: "10.5.9.0-24", Key: subnet.Key{Subnet: netip.MustParsePrefix("10.5.9.0/24")}, Value: subnet.Value{BackendType: "vxlan", PublicIP: netip.MustParseAddr("198.18.0.9")}}} {
		want := reportSkipped(subnet.Skipped{Lease: l, Problem: "a problem"})
		if want.Name != l.Name || want.State != api.StateIncompatible || want.Reason != "a problem" || want.Remedy == "" {
			t.Errorf("%s is told as %+v", l.Name, want)
		}
		raw, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got api.Peer
		if err := json.Unmarshal(raw, &got); err != nil || got.Subnet != want.Subnet || got.Endpoint != want.Endpoint {
			t.Errorf("%s became %+v, %v", raw, got, err)
		}
	}
}
