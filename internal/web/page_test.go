package web

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"twill/internal/api"
)

const hostile = `<script>alert(1)</script>"onload='alert(2)`

// host is a daemon with n peers in all states.
func host(n int) *fake {
	left := 20 * time.Hour.Seconds()
	f := &fake{live: ok, ready: ok, status: api.Status{
		Version: "1.2.3", Node: "node1", Network: netip.MustParsePrefix("10.5.0.0/16"), Subnet: netip.MustParsePrefix("10.5.1.0/24"),
		PublicIP: netip.MustParseAddr("192.0.2.1"), Port: 8285, Device: "twill0", MTU: 1472, Queues: 2, LeaseLeft: &left,
		Etcd:     api.Etcd{Reachable: true, Since: time.Now().Add(-3 * time.Hour), Revision: 4711},
		Offloads: []api.Offload{{Name: "tso", On: true}, {Name: "uso", Why: "this kernel has none"}},
		Tx:       api.Counters{Packets: 12345678, Bytes: 9876543210, Drops: map[string]uint64{"no-peer": 12, "too-big": 3}},
		Rx:       api.Counters{Packets: 2345, Bytes: 345678},
	}}
	for i := range n {
		p := api.Peer{
			Subnet:   netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(5 + (i+2)>>8), byte(i + 2), 0}), 24),
			Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(2 + i>>8), byte(i)}), 8285),
			Node:     fmt.Sprintf("node%d", i+2), State: api.StateUp, LastSeen: time.Now().Add(-time.Duration(i) * time.Second), PathMTU: 1472,
			TxBytes: uint64(1000 * i), RxBytes: uint64(500 * i), Drops: uint64(i % 7),
		}
		loss := float64(i%5) / 100
		switch rtt := []float64{0.0004, 0.004, 0.04, 0.4}[i%4]; {
		case i%11 == 7:
			p.State = api.StateUnreachable
			p.Reason = "no answer to 5 probes: its host is there, but nobody listens on UDP port 8285: its twill does not run"
			p.Remedy = "on " + p.Node + ": `systemctl start twill`, and `journalctl -u twill` for why it ended; if it runs, its firewall rejects the port"
		case i%13 == 9:
			p.State, p.Reason, p.LastSeen = api.StateSilent, "runs Flannel, which cannot be probed", time.Time{}
		default:
			p.RTT, p.Loss = &api.RTT{Smoothed: rtt}, &loss
		}
		f.peers.Peers = append(f.peers.Peers, p)
	}
	f.status.Peers = n
	return f
}

func TestPage(t *testing.T) {
	for _, n := range []int{0, 1, 3, 12, 13, 48, 49, 300, 2000} {
		w := get(handler(host(n)), "/")
		body := w.Body.String()
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
			t.Fatalf("%d peers: %d %v", n, w.Code, w.Header())
		}
		for _, want := range []string{"<h1>node1</h1>", "10.5.1.0/24", "Healthy", "20 h", "9.9 GB", "12\u202f345\u202f678", "no-peer", "this kernel has none", `<noscript><meta http-equiv="refresh"`} {
			if !strings.Contains(body, want) {
				t.Errorf("%d peers: no %q", n, want)
			}
		}
		if drawn := strings.Count(body, `<g class="peer `); drawn != min(n, maxDrawn) {
			t.Errorf("%d peers: %d are drawn", n, drawn)
		}
		if rows := strings.Count(body, `<th scope="row">node`); rows != min(n, maxRows) {
			t.Errorf("%d peers: %d rows", n, rows)
		}
		if capped := strings.Contains(body, "those with trouble, then"); capped != (n > maxDrawn) {
			t.Errorf("%d peers: it says that not all are drawn: %v", n, capped)
		}
		if strings.Contains(body, "ZgotmplZ") || strings.Contains(body, "%!") {
			t.Errorf("%d peers: something could not be written", n)
		}
	}
	if rows := strings.Count(get(handler(host(2000)), "/?all=1").Body.String(), `<th scope="row">node`); rows != 2000 {
		t.Errorf("%d of all rows", rows)
	}
}

// Names that others chose are text, wherever they stand.
func TestHostileNames(t *testing.T) {
	f := host(3)
	f.status.Node, f.ready = hostile, degraded
	f.ready.Problems = []api.Problem{{Code: hostile, Problem: hostile, Remedy: hostile}}
	f.ready.Notices = f.ready.Problems
	f.status.Tx.Drops = map[string]uint64{hostile: 1}
	f.peers.Peers[1].Node, f.peers.Peers[1].Reason = hostile, hostile
	body := get(handler(f), "/?sort="+hostile).Body.String()
	if strings.Contains(body, "<script>alert") || strings.Contains(body, `"onload`) || strings.Count(body, "<script") != 1 {
		t.Error("a name is markup")
	}
	if !strings.Contains(body, "&lt;script&gt;alert(1)") {
		t.Error("the name is not there")
	}
}

// Everything is in the page, and the policy lets nothing else in.
func TestPageIsSelfContained(t *testing.T) {
	w := get(handler(host(3)), "/")
	body, policy := w.Body.String(), w.Header().Get("Content-Security-Policy")
	for _, element := range regexp.MustCompile(`(?:src|href|url|action)\s*[=(]\s*["']?([^"'\s>)]*)`).FindAllStringSubmatch(body, -1) {
		if target := element[1]; strings.Contains(target, "//") {
			t.Errorf("%s leads elsewhere", element[0])
		}
	}
	if strings.Contains(body, " style=") || strings.Contains(body, " onclick=") {
		t.Error("the policy forbids inline attributes")
	}
	for tag, pattern := range map[string]string{"style-src": "(?s)<style>(.*?)</style>", "script-src": "(?s)<script>(.*?)</script>"} {
		found := regexp.MustCompile(pattern).FindStringSubmatch(body)
		if found == nil || !strings.Contains(policy, tag+" "+source(found[1])) {
			t.Errorf("the policy %q does not allow the page's own %s", policy, tag)
		}
	}
	if strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'") {
		t.Errorf("policy %q", policy)
	}
}

func TestVerdicts(t *testing.T) {
	starting := api.Health{State: api.HealthFailed, Problems: []api.Problem{{Code: api.ProblemStarting, Problem: "waiting for etcd at http://192.0.2.9:2379"}}}
	for _, tt := range []struct {
		name        string
		live, ready api.Health
		starting    bool
		want        []string
	}{
		{"degraded", ok, degraded, false, []string{"Degraded", "connection refused", "To do:", "look whether etcd runs"}},
		{"a notice", ok, noticed, false, []string{"Healthy", "What is wrong elsewhere", "host3", "To do:", "look there"}},
		{"unready", ok, failed, false, []string{"Not ready", "no address"}},
		{"hung", failed, ok, false, []string{"Hung"}},
		{"starting", ok, starting, true, []string{"Starting", "What it waits for", "waiting for etcd at http://192.0.2.9:2379"}},
	} {
		f := host(1)
		f.live, f.ready, f.starting = tt.live, tt.ready, tt.starting
		w := get(handler(f), "/")
		for _, want := range tt.want {
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: %d, no %q", tt.name, w.Code, want)
			}
		}
		if tt.starting && strings.Contains(w.Body.String(), "<table") {
			t.Error("a daemon that starts has a table")
		}
	}
}

// Of a peer that is not reached the page says what to do; of a silent one there is nothing to do.
func TestPageSaysWhatToDoAboutPeers(t *testing.T) {
	for state, want := range map[api.PeerState]bool{api.StateUnreachable: true, api.StateVanished: true, api.StateIncompatible: true, api.StateSilent: false} {
		f := host(1)
		p := &f.peers.Peers[0]
		p.State, p.RTT, p.Remedy = state, nil, "start it"
		body := get(handler(f), "/").Body.String()
		if strings.Contains(body, "<b>To do:</b> start it") != want {
			t.Errorf("%s: the page says what to do: %v, want %v", state, !want, want)
		}
		if strings.Contains(body, `<g class="peer lost">`) != want {
			t.Errorf("%s: drawn as out of reach: %v, want %v", state, !want, want)
		}
	}
}

func TestTableOrder(t *testing.T) {
	first := func(query string) string {
		body := get(handler(host(40)), "/?"+query).Body.String()
		return regexp.MustCompile(`<th scope="row">(\w+)<`).FindStringSubmatch(body)[1]
	}
	for query, want := range map[string]string{
		"":                  "node9", // the first that is out of reach
		"sort=nonsense":     "node9",
		"sort=drops&desc=1": "node8",
		"sort=tx&desc=1":    "node41",
		"sort=tx":           "node2",
		"sort=rtt&desc=1":   "node5",
		"sort=node":         "node10",
		"sort=node&desc=1":  "node9",
	} {
		if got := first(query); got != want {
			t.Errorf("?%s begins with %s, want %s", query, got, want)
		}
	}
	body := get(handler(host(4)), "/?sort=rtt").Body.String()
	if !strings.Contains(body, `aria-sort="ascending"><a href="?desc=1&amp;sort=rtt"`) || strings.Count(body, ` aria-sort="`) != 1 {
		t.Errorf("the head of the column does not say its order, or does not lead to the other one: %s", regexp.MustCompile(`<th[^>]*><a[^>]*sort-rtt[^>]*>`).FindString(body))
	}
}

// Rates are between two looks, those of all clients; a peer that counts anew has none.
func TestRates(t *testing.T) {
	f := host(2)
	var r rates
	start := time.Now()
	rows, tx, _ := r.rows(f.peers.Peers, f.status, start)
	if rows[0].TxRate >= 0 || tx.Rate >= 0 {
		t.Errorf("a rate after one look: %v, %v", rows[0].TxRate, tx.Rate)
	}
	f.status.Tx.Bytes += 4000
	f.peers.Peers[0].TxBytes += 1000
	f.peers.Peers[1].TxBytes = 0
	if rows, _, _ = r.rows(f.peers.Peers, f.status, start.Add(time.Second)); rows[0].TxRate >= 0 {
		t.Error("a rate over too short a time")
	}
	for range 2 { // the same until the next look
		rows, tx, _ = r.rows(f.peers.Peers, f.status, start.Add(4*time.Second))
		if rows[0].TxRate != 250 || rows[0].RxRate != 0 || rows[1].TxRate >= 0 || tx.Rate != 1000 {
			t.Errorf("rates %v, %v, %v of all; want 250, unknown, 1000", rows[0].TxRate, rows[1].TxRate, tx.Rate)
		}
	}
	f.status.Tx.Bytes += 4000
	if rows, tx, _ = r.rows(f.peers.Peers, f.status, start.Add(time.Hour)); rows[0].TxRate >= 0 || tx.Rate >= 0 {
		t.Errorf("the mean of an hour is shown as a rate: %v, %v", rows[0].TxRate, tx.Rate)
	}
}

func TestTexts(t *testing.T) {
	for got, want := range map[string]string{
		size(0): "0 B", size(999): "999 B", size(1000): "1.0 kB", size(99_949): "99.9 kB", size(123_456): "123 kB", size(9_876_543_210): "9.9 GB",
		size(999_999): "1.0 MB", bitRate(-1): unknown, bitRate(125): "1.0 kbit/s", count(1234567): "1\u202f234\u202f567", count(12): "12",
		rttText(nil): unknown, rttText(&api.RTT{Smoothed: 0.00042}): "0.42 ms", rttText(&api.RTT{Smoothed: 0.1234}): "123 ms", percent(nil): unknown,
		ago(time.Time{}, time.Now()): "never", ago(time.Unix(0, 0), time.Unix(90, 0)): "2 min", ago(time.Unix(100, 0), time.Unix(0, 0)): "0 s",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
