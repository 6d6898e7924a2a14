package metrics

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"twill/internal/api"
	"twill/tunnel"
)

// fixed is a Source.
type fixed Snapshot

func (f *fixed) Snapshot() Snapshot { return Snapshot(*f) }

// busy is a daemon with something of everything.
func busy() *fixed {
	loss, left := 0.25, 3600.0
	s := &fixed{
		Live:  api.Health{State: api.HealthOK},
		Ready: api.Health{State: api.HealthDegraded, Problems: []api.Problem{{Code: api.ProblemEtcdAway}}, Notices: []api.Problem{{Code: api.ProblemClock}}},

		Started: true,
		Status: api.Status{
			MTU: 1472, Queues: 2, Skipped: 3, LeaseLeft: &left,
			PeerStates: map[api.PeerState]int{api.StateUp: 1, api.StateSilent: 1, api.StateIncompatible: 3},
			Etcd:       api.Etcd{Revision: 42, Since: time.Unix(1000, 5e8)},
			Offloads:   []api.Offload{{Name: "tso", On: true}, {Name: "uso"}},
		},
		Peers: []api.Peer{
			{
				Subnet: netip.MustParsePrefix("10.5.2.0/24"), Node: `"<script>`, State: api.StateUp, PathMTU: 1400,
				RTT: &api.RTT{Smoothed: 0.002}, Loss: &loss, TxPackets: 7, RxPackets: 8, TxBytes: 70, RxBytes: 80, Drops: 9, LastSeen: time.Unix(2000, 0),
			},
			{Subnet: netip.MustParsePrefix("10.5.3.0/24"), State: api.StateSilent, PathMTU: 1472},
		},
		TableChanged: time.Unix(3000, 0),
	}
	s.Tunnel.Tx.Packets, s.Tunnel.Rx.Bytes, s.Tunnel.ICMPErrors = 11, 12, 13
	s.Tunnel.Tx.Drops[tunnel.DropNoPeer], s.Tunnel.Rx.Drops[tunnel.DropNotForUs] = 14, 15
	s.Tunnel.Sends = tunnel.Bursts{Sizes: [8]uint64{5, 0, 2}, Packets: 12}
	return s
}

func newMetrics(s Source, perPeer bool) *Metrics {
	return New(Options{Source: s, Version: "1.2.3", PerPeer: perPeer, Log: slog.New(slog.DiscardHandler)})
}

// scrape returns the series as Prometheus reads them.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d, %v: %s", w.Code, err, body)
	}
	return string(body)
}

func TestNamesAreClean(t *testing.T) {
	m := newMetrics(busy(), true)
	m.RPC("Range", "OK", time.Millisecond)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "twill_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if found, err := promlint.New(strings.NewReader("# TYPE bad_count counter\nbad_count 1\n")).Lint(); err != nil || len(found) == 0 {
		t.Errorf("the linter finds nothing wrong: %v", err)
	}
}

func TestSeries(t *testing.T) {
	m := newMetrics(busy(), true)
	m.ProbeSent()
	m.RoundTrip(3 * time.Millisecond)
	m.Losses(tunnel.Loss{Lost: 0, Sent: 100}, tunnel.Loss{Lost: 50, Sent: 100})
	m.Losses(tunnel.Loss{}, tunnel.Loss{Lost: 1, Sent: 100}) // nothing was sent out: nothing is known
	m.RPC("Range", "OK", 3*time.Millisecond)
	m.RPC("Txn", "Unavailable", time.Second)
	text := scrape(t, m)
	for _, want := range []string{
		`twill_build_info{goversion="go`,
		"twill_alive 1",
		"twill_ready 1",
		`twill_problems{code="etcd-away"} 1`,
		`twill_problems{code="underlay"} 0`,
		`twill_problems{code="clock"} 0`,
		`twill_notices{code="clock"} 1`,
		`twill_notices{code="peers-unreachable"} 0`,
		`twill_packets_total{direction="tx"} 11`,
		`twill_bytes_total{direction="rx"} 12`,
		`twill_dropped_packets_total{direction="tx",reason="no-peer"} 14`,
		`twill_dropped_packets_total{direction="rx",reason="not-for-us"} 15`,
		"twill_icmp_errors_sent_total 13",
		`twill_burst_packets_bucket{operation="send",le="1"} 5`,
		`twill_burst_packets_bucket{operation="send",le="2"} 5`,
		`twill_burst_packets_bucket{operation="send",le="4"} 7`,
		`twill_burst_packets_bucket{operation="send",le="+Inf"} 7`,
		`twill_burst_packets_sum{operation="send"} 12`,
		"twill_queues 2",
		"twill_device_mtu_bytes 1472",
		`twill_offload_enabled{offload="tso"} 1`,
		`twill_offload_enabled{offload="uso"} 0`,
		`twill_peers{state="up"} 1`,
		`twill_peers{state="unreachable"} 0`,
		`twill_peers{state="incompatible"} 3`,
		"twill_skipped_leases 3",
		"twill_lease_remaining_seconds 3600",
		"twill_table_revision 42",
		"twill_table_changed_timestamp_seconds 3000",
		"twill_table_from_cache 0",
		"twill_etcd_up 0",
		"twill_etcd_state_changed_timestamp_seconds 1000.5",
		"twill_probes_sent_total 1",
		`twill_probe_rtt_seconds_bucket{le="0.0025"} 0`,
		`twill_probe_rtt_seconds_bucket{le="0.005"} 1`,
		"twill_probe_rtt_seconds_count 1",
		`twill_path_loss_ratio_bucket{direction="tx",le="0"} 1`,
		`twill_path_loss_ratio_count{direction="tx"} 1`,
		`twill_path_loss_ratio_bucket{direction="rx",le="0.25"} 1`,
		`twill_path_loss_ratio_bucket{direction="rx",le="0.5"} 2`,
		`twill_etcd_request_duration_seconds_count{method="Range"} 1`,
		`twill_etcd_request_duration_seconds_count{method="Txn"} 1`,
		`twill_etcd_request_errors_total{code="Unavailable"} 1`,
		`twill_etcd_request_errors_total{code="DeadlineExceeded"} 0`,
		`twill_peer_up{node="\"<script>",subnet="10.5.2.0/24"} 1`,
		`twill_peer_packets_total{direction="rx",node="\"<script>",subnet="10.5.2.0/24"} 8`,
		`twill_peer_rtt_seconds{node="\"<script>",subnet="10.5.2.0/24"} 0.002`,
		`twill_peer_probe_loss_ratio{node="\"<script>",subnet="10.5.2.0/24"} 0.25`,
		`twill_peer_last_seen_timestamp_seconds{node="",subnet="10.5.3.0/24"} 0`,
		"go_goroutines ",
		"process_open_fds ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line begins with %s", want)
		}
	}
	for _, unwanted := range []string{
		`reason="not-for-us"} 0`,                     // outbound, where it cannot be
		`twill_peer_rtt_seconds{node="",`,            // not known
		`twill_etcd_request_errors_total{code="OK"}`, // no error
	} {
		if strings.Contains(text, unwanted) {
			t.Errorf("some line has %s", unwanted)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestSeriesPerPeerNeedTheFlag(t *testing.T) {
	if text := scrape(t, newMetrics(busy(), false)); strings.Contains(text, "twill_peer_") || strings.Contains(text, "<script") {
		t.Error("there are series of peers")
	}
}

// What does not expire has no time left.
func TestReservationNeverExpires(t *testing.T) {
	s := busy()
	s.Status.LeaseLeft = nil
	if text := scrape(t, newMetrics(s, false)); strings.Contains(text, "twill_lease_remaining_seconds") {
		t.Error("the lease of a reservation expires")
	}
}

// Before the start is over there is nothing but health, and what is observed.
func TestSeriesOfAStart(t *testing.T) {
	s := &fixed{
		Live:  api.Health{State: api.HealthOK},
		Ready: api.Health{State: api.HealthFailed, Problems: []api.Problem{{Code: api.ProblemStarting}}},
	}
	text := scrape(t, newMetrics(s, true))
	for _, want := range []string{"twill_alive 1", "twill_ready 0", `twill_problems{code="starting"} 1`} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line begins with %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, "twill_packets_total") {
		t.Error("packets are counted before there is a tunnel")
	}
}
