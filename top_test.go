package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"twill/internal/api"
)

func TestRates(t *testing.T) {
	at := time.Unix(1e9, 0)
	peer := func(last byte, rx, tx, drops uint64) api.Peer {
		return api.Peer{
			Subnet:    netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, last, 0}), 24),
			RxPackets: rx, RxBytes: 100 * rx, TxPackets: tx, TxBytes: 1000 * tx, Drops: drops,
		}
	}
	before := api.Peers{Time: at, Peers: []api.Peer{peer(1, 10, 20, 1), peer(2, 500, 500, 0), peer(9, 1, 1, 1)}}
	after := api.Peers{Time: at.Add(2 * time.Second), Peers: []api.Peer{peer(1, 30, 20, 7), peer(2, 4, 6, 0), peer(3, 2, 0, 0)}}
	rates := ratesOf(before, after)
	want := []peerRate{
		{rx: rate{10, 8000}, drops: 3},
		{rx: rate{2, 1600}, tx: rate{3, 24000}}, // the daemon was restarted
		{rx: rate{1, 800}},                      // new
	}
	for i, w := range want {
		if got := rates[i]; got.rx != w.rx || got.tx != w.tx || got.drops != w.drops {
			t.Errorf("%s: %+v, want %+v", got.peer.Subnet, got, w)
		}
	}
	if len(rates) != len(want) {
		t.Errorf("%d peers, want %d", len(rates), len(want))
	}
	report := (&top{before: before, after: after, node: func(string) bool { return true }}).report()
	if p := report.Peers[0]; report.Interval != 2 || len(report.Peers) != len(want) || p.RxPackets != 10 || p.RxBits != 8000 || p.TxPackets != 0 || p.Drops != 3 {
		t.Errorf("for programs: %+v", report)
	}
	for _, r := range ratesOf(after, after) {
		if r.rx != (rate{}) {
			t.Errorf("in no time at all: %+v", r)
		}
	}
}

// Where there is no terminal twill top measures once, the busiest peer first.
func TestTopOnce(t *testing.T) {
	runDir := fakeDaemon(t, map[string]any{api.PeersPath: samplePeers()})
	out, code, err := runTwill(t, "top", "--run-dir", runDir, "--interval", "200ms", "--sort", "-subnet", "--node", "host*")
	if got := strings.Join(firsts(out), " "); code != exitOK || got != "2 10.5.5.0/24 10.5.2.0/24" {
		t.Errorf("got %s, %v:\n%s", got, err, out)
	}
	out, code, err = runTwill(t, "top", "--run-dir", runDir, "--interval", "200ms", "--json", "--sort", "-subnet", "--node", "host*")
	var rates api.Rates
	if bad := json.Unmarshal([]byte(out), &rates); bad != nil || code != exitOK || rates.Schema != api.Schema || !rates.Time.Equal(shownAt) ||
		len(rates.Peers) != 2 || rates.Peers[0].Node != "host5" || rates.Peers[1].State != api.StateUnreachable || rates.Peers[1].RTT == nil {
		t.Errorf("as JSON: %v, %v, exit code %d:\n%s", bad, err, code, out)
	}
	for args, says := range map[string]string{"--interval 1ms": "at least 200ms", "--sort mtu": "want one of drops"} {
		_, code, err := runTwill(t, append([]string{"top", "--run-dir", runDir}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(err.Error(), says) {
			t.Errorf("top %s: %v, exit code %d; want %q and %d", args, err, code, says, exitUsage)
		}
	}
}
