package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twill/internal/api"
	"twill/internal/daemon"
	"twill/internal/terminal"
)

var updateGolden = flag.Bool("update-golden", false, "write testdata/*.golden anew")

// checkGolden compares a table with what it was when somebody last looked at it.
func checkGolden(t *testing.T, name string, table *terminal.Table) {
	t.Helper()
	var got bytes.Buffer
	if _, err := table.WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".golden")
	if *updateGolden {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is shown as\n%s\nwant\n%s", name, got.Bytes(), want)
	}
}

var shownAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// samplePeers has one peer in each state, in order of subnet.
func samplePeers() api.Peers {
	half, none, ahead := 0.5, 0.0, 8.25
	return api.Peers{Schema: api.Schema, Time: shownAt, Peers: []api.Peer{
		{Subnet: netip.MustParsePrefix("10.5.1.0/24"), Endpoint: netip.MustParseAddrPort("198.18.0.1:8285"), Node: "主机", NodeID: "01", State: api.StateUp,
			LastSeen: shownAt.Add(-time.Second), RTT: &api.RTT{Smoothed: 0.00042}, Loss: &none, LossOut: &none, LossIn: &none, ClockAhead: &ahead, PathMTU: 1472,
			RxPackets: 12345, RxBytes: 3_565_158, TxPackets: 12, TxBytes: 1024, Drops: 3},
		{Subnet: netip.MustParsePrefix("10.5.2.0/24"), Endpoint: netip.MustParseAddrPort("198.18.0.2:8285"), Node: "host2", NodeID: "02", State: api.StateUnreachable,
			Reason: "no answer to 7 probes, and nothing heard for 1m0s", Remedy: "is the host up?", LastSeen: shownAt.Add(-time.Minute),
			RTT: &api.RTT{Smoothed: 0.0123}, Loss: &half, PathMTU: 1400, RxBytes: 100, TxBytes: 4_000_000_000},
		{Subnet: netip.MustParsePrefix("10.5.3.0/24"), Endpoint: netip.MustParseAddrPort("198.18.0.3:8285"), State: api.StateSilent,
			Reason: "runs Flannel, which cannot be probed", Remedy: "nothing", PathMTU: 1472},
		{Subnet: netip.MustParsePrefix("10.5.4.0/24"), Endpoint: netip.MustParseAddrPort("198.18.0.4:8285"), State: api.StateSilent,
			Reason: "runs Flannel, which cannot be probed", Remedy: "nothing", PathMTU: 1472},
		{Subnet: netip.MustParsePrefix("10.5.5.0/24"), Endpoint: netip.MustParseAddrPort("198.18.0.5:8285"), Node: "host5", State: api.StateVanished,
			Reason: "its lease is gone from etcd", PathMTU: 1472},
	}, Unused: []api.Peer{{Name: "no subnet\x1b[2J", State: api.StateIncompatible, Reason: "the key does not parse", Remedy: "delete it"}}}
}

func TestPeersAreShown(t *testing.T) {
	peers := samplePeers()
	all := append(peers.Peers, peers.Unused...)
	for _, wide := range []bool{false, true} {
		table := &terminal.Table{Width: 100}
		peerRows(table, all, wide, shownAt)
		peerReasons(table, all)
		checkGolden(t, map[bool]string{false: "peers", true: "peers-wide"}[wide], table)
	}
}

func TestPeersFitOnATerminal(t *testing.T) {
	peers := samplePeers().Peers
	for i := range peers {
		p := &peers[i]
		p.Subnet, p.Endpoint = netip.MustParsePrefix("10.255.255.0/24"), netip.MustParseAddrPort("198.18.255.255:8285")
		p.Node, p.RxBytes, p.TxBytes = "node-0123", 1<<60, 1<<60
	}
	table := &terminal.Table{}
	peerRows(table, peers, false, shownAt)
	var b strings.Builder
	_, _ = table.WriteTo(&b)
	for line := range strings.Lines(b.String()) {
		if len(line) > 120 {
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
}

func TestStatusIsShown(t *testing.T) {
	left := 86_000.0
	healthy := api.Status{
		Schema: api.Schema, Version: "1.2.3", Started: shownAt.Add(-50 * time.Hour), Node: "host1", Network: netip.MustParsePrefix("10.5.0.0/16"),
		Subnet: netip.MustParsePrefix("10.5.7.0/24"), PublicIP: netip.MustParseAddr("198.18.0.1"), Port: 8285, LeaseLeft: &left,
		Device: "twill0", MTU: 1472, Queues: 2, Peers: 3, Skipped: 1, PeerStates: map[api.PeerState]int{api.StateUp: 2, api.StateSilent: 1, api.StateIncompatible: 1},
		Etcd:     api.Etcd{Reachable: true, Since: shownAt.Add(-time.Hour), Revision: 17, Latency: 0.0012},
		Offloads: []api.Offload{{Name: "tso", On: true}, {Name: "uso", Why: "the kernel refused it"}, {Name: "udp-segment", On: true}},
		Tx:       api.Counters{Packets: 123456, Bytes: 3_565_158, Drops: map[string]uint64{"no-peer": 3, "ttl-expired": 3, "loop": 12345}},
		Rx:       api.Counters{Packets: 5},
	}
	degraded := healthy
	degraded.Etcd = api.Etcd{Since: shownAt.Add(-3 * time.Minute), Error: "connection refused", Revision: 17}
	degraded.Problems = []api.Problem{{Code: "etcd-away", Problem: "etcd is away: connection refused", Remedy: "look whether etcd runs and this host reaches it; until then forwarding goes on with the last table"}, {Code: "x", Problem: "a b", Remedy: "c"}}
	noticed := healthy
	noticed.Notices = []api.Problem{{Code: "peers-unreachable", Problem: "peers without an answer: host3 (1 of 3 that are asked)", Remedy: "`twill peers --state unreachable` says why of each"}}
	cached := api.Status{Etcd: api.Etcd{Since: shownAt, Refuses: true, Reachable: true, Cached: shownAt.Add(-time.Hour)}}
	for name, s := range map[string]api.Status{"status": healthy, "status-degraded": degraded, "status-notice": noticed, "status-older-daemon": cached} {
		table := &terminal.Table{Width: 80}
		statusRows(table, s, shownAt)
		checkGolden(t, name, table)
	}
}

func TestLeasesAreShown(t *testing.T) {
	left, little := int64(86_000), int64(700)
	leases := api.Leases{Leases: []api.Lease{
		{Subnet: "10.5.1.0/24", PublicIP: "198.18.0.1", Node: "host1", Backend: "udp", Port: 8285, ExpiresIn: &left},
		{Subnet: "10.5.2.0/24", PublicIP: "198.18.0.2", Backend: "vxlan", ExpiresIn: &left, Problem: `backend "vxlan"; twill carries udp only`, Remedy: "move that host"},
		{Subnet: "10.5.3.0/24", PublicIP: "198.18.0.3", Backend: "udp", Reserved: true},
		{Subnet: "10.5.4.0/24", PublicIP: "198.18.0.4", Node: "host4", Backend: "udp", Port: 8285, ExpiresIn: &little},
	}}
	noteExpiry(&leases.Leases[3], time.Duration(little)*time.Second)
	noteExpiry(&leases.Leases[0], time.Duration(left)*time.Second)
	table := &terminal.Table{Width: 80}
	leaseRows(table, leases)
	checkGolden(t, "leases", table)
}

// fakeDaemon answers on the control socket of the returned run directory.
func fakeDaemon(t *testing.T, answers map[string]any) (runDir string) {
	t.Helper()
	runDir = t.TempDir()
	l, err := net.Listen("unix", daemon.SocketPath(runDir))
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return runDir
}

// runTwill runs a command in this process.
func runTwill(t *testing.T, args ...string) (out string, code int, err error) {
	t.Helper()
	var b bytes.Buffer
	app := newApp()
	app.Writer, app.ErrWriter = &b, &b
	err = app.RunContext(t.Context(), append([]string{"twill"}, args...))
	return b.String(), exitCode(err), err
}

// firsts are the first words of the lines of a table without its header.
func firsts(table string) (words []string) {
	for line := range strings.Lines(table) {
		if word, _, _ := strings.Cut(line, " "); word != "SUBNET" && line != "\n" {
			words = append(words, strings.TrimSpace(word))
			continue
		}
		if line == "\n" {
			break
		}
	}
	return words
}

func TestPeersAreSelected(t *testing.T) {
	runDir := fakeDaemon(t, map[string]any{api.PeersPath: samplePeers()})
	for _, tt := range []struct{ args, want string }{
		{"", "10.5.1.0/24 10.5.2.0/24 10.5.3.0/24 10.5.4.0/24 10.5.5.0/24 no"},
		{"--state up", "10.5.1.0/24"},
		{"--state vanished --state incompatible", "10.5.5.0/24 no"},
		{"--node host*", "10.5.2.0/24 10.5.5.0/24"},
		{"--node host2", "10.5.2.0/24"},
		{"--subnet 10.5.3.77", "10.5.3.0/24"},
		{"--subnet 10.5.2.0/23", "10.5.2.0/24 10.5.3.0/24"},
		{"--sort -tx --state up --state unreachable", "10.5.2.0/24 10.5.1.0/24"},
		{"--sort rtt --state up --state unreachable", "10.5.1.0/24 10.5.2.0/24"},
		{"--sort -subnet --state up --state unreachable", "10.5.2.0/24 10.5.1.0/24"},
		{"--sort state", "no 10.5.3.0/24 10.5.4.0/24 10.5.2.0/24 10.5.1.0/24 10.5.5.0/24"},
	} {
		out, code, err := runTwill(t, append([]string{"peers", "--run-dir", runDir}, strings.Fields(tt.args)...)...)
		if got := strings.Join(firsts(out), " "); err != nil || code != exitOK || got != tt.want {
			t.Errorf("peers %s: %s, %v; want %s", tt.args, got, err, tt.want)
		}
	}
	for args, says := range map[string]string{
		"--state down": "want up, silent", "--sort speed": "want one of drops", "--node [": "not a pattern",
		"--subnet here": "want a subnet", "--watch=soon": "want a time", "--watch=1ms": "at least 200ms",
	} {
		_, code, err := runTwill(t, append([]string{"peers", "--run-dir", runDir}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(err.Error(), says) {
			t.Errorf("peers %s: %v, exit code %d; want %q and %d", args, err, code, says, exitUsage)
		}
	}
	var peers api.Peers
	out, _, err := runTwill(t, "peers", "--run-dir", runDir, "--json", "--state", "up")
	if err := errors.Join(err, json.Unmarshal([]byte(out), &peers)); err != nil || len(peers.Peers) != 1 || len(peers.Unused) != 0 || peers.Schema != api.Schema {
		t.Errorf("JSON of one peer: %v\n%s", err, out)
	}
}

// An exit code tells how the daemon is, also for --json.
func TestStatusExitCodes(t *testing.T) {
	problem := []api.Problem{{Code: api.ProblemEtcdAway, Problem: "etcd is away", Remedy: "look there"}}
	for _, tt := range []struct {
		name    string
		answers map[string]any
		args    []string
		code    int
		says    string
	}{
		{"healthy", map[string]any{api.StatusPath: api.Status{}}, nil, exitOK, "healthy"},
		{"degraded", map[string]any{api.StatusPath: api.Status{Problems: problem}}, nil, exitDegraded, "degraded: 1 problem\n\n  etcd is away\n  → look there\n"},
		{"degraded, JSON", map[string]any{api.StatusPath: api.Status{Problems: problem}}, []string{"--json"}, exitDegraded, `"code": "etcd-away"`},
		{"a notice", map[string]any{api.StatusPath: api.Status{Notices: problem}}, nil, exitOK, "healthy, 1 notice\n\n  etcd is away\n  → look there\n"},
		{"a problem and a notice", map[string]any{api.StatusPath: api.Status{Problems: problem, Notices: problem}}, nil, exitDegraded, "degraded: 1 problem, 1 notice\n"},
		{"an older daemon", map[string]any{api.StatusPath: map[string]any{"node": "old"}}, nil, exitOK, "old"},
		{"a newer daemon", map[string]any{api.StatusPath: map[string]any{"schema": 99, "node": "new", "novelty": true}}, nil, exitOK, "new"},
		{"one that is not understood", map[string]any{api.StatusPath: map[string]any{"node": 7}}, nil, exitFailed, "another version"},
	} {
		out, code, err := runTwill(t, append([]string{"status", "--run-dir", fakeDaemon(t, tt.answers)}, tt.args...)...)
		if code != tt.code || !strings.Contains(out+fmt.Sprint(err), tt.says) {
			t.Errorf("%s: exit code %d, %v, want %d and %q:\n%s", tt.name, code, err, tt.code, tt.says, out)
		}
	}
	_, code, err := runTwill(t, "status", "--run-dir", t.TempDir())
	if code != exitNotRunning || strings.Contains(err.Error(), "the last one") {
		t.Errorf("none runs: exit code %d, %v; want %d", code, err, exitNotRunning)
	}
}

// Ten thousand peers are shown in well under a second.
func BenchmarkPeers(b *testing.B) {
	sample := samplePeers().Peers
	var peers api.Peers
	for i := range 10_000 {
		p := sample[i%len(sample)]
		p.Subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		peers.Peers = append(peers.Peers, p)
	}
	raw, err := json.Marshal(peers)
	if err != nil {
		b.Fatal(err)
	}
	sel := peerSelection{node: func(string) bool { return true }, order: order[api.Peer]{compare: peerKeys["rx"], down: true}}
	for b.Loop() {
		var peers api.Peers
		if err := json.Unmarshal(raw, &peers); err != nil {
			b.Fatal(err)
		}
		sel.apply(&peers)
		table := &terminal.Table{}
		peerRows(table, peers.Peers, false, shownAt)
		peerReasons(table, peers.Peers)
		if _, err := table.WriteTo(new(bytes.Buffer)); err != nil {
			b.Fatal(err)
		}
	}
}
