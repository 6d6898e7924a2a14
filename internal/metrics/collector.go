package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"twill/internal/api"
	"twill/tunnel"
)

// Values of the label direction, as in the JSON of twill status.
const (
	directionLabel = "direction"
	transmit       = "tx"
	receive        = "rx"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	alive    = desc("twill_alive", "1 while the daemon's loops turn, as /healthz says.")
	ready    = desc("twill_ready", "1 while this host carries its pods' packets, as /readyz says.")
	problems = desc("twill_problems", "Problems of this host at present, by code; twill status says what to do about each.", "code")
	notices  = desc("twill_notices", "What is wrong elsewhere at present as this host sees it, by code; it leaves this host healthy.", "code")

	packets = desc("twill_packets_total", "Pods' packets that were carried.", directionLabel)
	bytes   = desc("twill_bytes_total", "Bytes of the pods' packets that were carried, without the tunnel's headers.", directionLabel)
	dropped = desc("twill_dropped_packets_total", "Packets that were dropped, by reason.", directionLabel, "reason")
	icmp    = desc("twill_icmp_errors_sent_total", "ICMP errors sent to pods.")
	bursts  = desc("twill_burst_packets", "Packets in a burst that was read from the TUN device (a super-packet is one), sent to the UDP socket or received from it.", "operation")

	queues   = desc("twill_queues", "Queues of the TUN device, each with a socket.")
	mtu      = desc("twill_device_mtu_bytes", "MTU of the TUN device.")
	offloads = desc("twill_offload_enabled", "1 where the kernel's offload is in use.", "offload")

	peers   = desc("twill_peers", "Other hosts' leases, by state of the peer; incompatible ones cannot be used.", "state")
	skipped = desc("twill_skipped_leases", "Leases in etcd that cannot be used; twill leases says why.")

	leaseLeft    = desc("twill_lease_remaining_seconds", "Time until this host's lease expires unless it is renewed.")
	revision     = desc("twill_table_revision", "Revision of etcd that the table is of.")
	tableChanged = desc("twill_table_changed_timestamp_seconds", "When the peers in the table last changed, in Unix time.")
	fromCache    = desc("twill_table_from_cache", "1 while the table is that of an earlier run, because etcd has not answered since the start.")

	etcdUp    = desc("twill_etcd_up", "1 while etcd does what it is asked.")
	etcdSince = desc("twill_etcd_state_changed_timestamp_seconds", "Since when etcd is up, or is not, in Unix time.")
)

// always are the metrics that there are whatever the options.
var always = []*prometheus.Desc{
	alive, ready, problems, notices, packets, bytes, dropped, icmp, bursts, queues, mtu, offloads, peers, skipped,
	leaseLeft, revision, tableChanged, fromCache, etcdUp, etcdSince,
}

// collector makes the series of a Snapshot.
type collector struct {
	source  Source
	perPeer bool
}

// Describe says which metrics there can be.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range always {
		ch <- d
	}
	if c.perPeer {
		for _, d := range perPeer {
			ch <- d
		}
	}
}

// Collect makes them.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	e := emitter{ch}
	s := c.source.Snapshot()
	e.gauge(alive, boolean(s.Live.State != api.HealthFailed))
	e.gauge(ready, boolean(s.Ready.State != api.HealthFailed))
	e.problems(s)
	if !s.Started {
		return
	}
	e.status(&s.Status)
	e.traffic(&s.Tunnel)
	e.peers(s.Status.PeerStates)
	e.gauge(tableChanged, unix(s.TableChanged))
	if c.perPeer {
		for i := range s.Peers {
			e.peer(&s.Peers[i])
		}
	}
}

// emitter sends series to Prometheus' registry.
type emitter struct{ ch chan<- prometheus.Metric }

func (e emitter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (e emitter) counter(d *prometheus.Desc, v uint64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// problems counts those of both kinds of health, and the notices.
func (e emitter) problems(s Snapshot) {
	e.codes(problems, api.ProblemCodes, s.Live.Problems, s.Ready.Problems)
	e.codes(notices, api.NoticeCodes, s.Ready.Notices)
}

// codes counts what was found by code. Each code has a series, so that a query finds the one that is 0.
func (e emitter) codes(d *prometheus.Desc, codes []string, found ...[]api.Problem) {
	count := map[string]int{}
	for _, code := range codes {
		count[code] = 0
	}
	for _, p := range slices.Concat(found...) {
		count[p.Code]++
	}
	for code, n := range count {
		e.gauge(d, float64(n), code)
	}
}

func (e emitter) status(s *api.Status) {
	e.gauge(queues, float64(s.Queues))
	e.gauge(mtu, float64(s.MTU))
	for _, o := range s.Offloads {
		e.gauge(offloads, boolean(o.On), o.Name)
	}
	e.gauge(skipped, float64(s.Skipped))
	if s.LeaseLeft != nil {
		e.gauge(leaseLeft, *s.LeaseLeft)
	}
	e.gauge(revision, float64(s.Etcd.Revision))
	e.gauge(fromCache, boolean(!s.Etcd.Cached.IsZero()))
	e.gauge(etcdUp, boolean(s.Etcd.Reachable && !s.Etcd.Refuses))
	e.gauge(etcdSince, unix(s.Etcd.Since))
}

func (e emitter) traffic(s *tunnel.Stats) {
	e.counter(packets, s.Tx.Packets, transmit)
	e.counter(packets, s.Rx.Packets, receive)
	e.counter(bytes, s.Tx.Bytes, transmit)
	e.counter(bytes, s.Rx.Bytes, receive)
	for reason := range tunnel.DropReasons() {
		out, in := reason.Directions()
		if out {
			e.counter(dropped, s.Tx.Drops[reason], transmit, reason.String())
		}
		if in {
			e.counter(dropped, s.Rx.Drops[reason], receive, reason.String())
		}
	}
	e.counter(icmp, s.ICMPErrors)
	e.bursts("read", &s.Reads)
	e.bursts("send", &s.Sends)
	e.bursts("receive", &s.Receives)
}

func (e emitter) bursts(operation string, b *tunnel.Bursts) {
	count, buckets := uint64(0), map[float64]uint64{}
	for i, n := range b.Sizes {
		count += n
		buckets[float64(uint64(1)<<i)] = count
	}
	e.ch <- prometheus.MustNewConstHistogram(bursts, count, float64(b.Packets), buckets, operation)
}

func (e emitter) peers(count map[api.PeerState]int) {
	for _, state := range api.PeerStates {
		e.gauge(peers, float64(count[state]), string(state))
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unix is t in Unix time, with fractions; 0 for never.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
