package metrics

import (
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"twill/internal/api"
	"twill/tunnel"
)

// Source is the daemon. Its methods may be called by many at once.
type Source interface {
	Snapshot() Snapshot
}

// Snapshot is the daemon at one moment.
type Snapshot struct {
	Live, Ready api.Health
	// Started says that the daemon holds a lease and all below is known.
	Started bool
	Status  api.Status
	Peers   []api.Peer // only needed with Options.PerPeer
	Tunnel  tunnel.Stats
	// TableChanged is when the peers in force last changed.
	TableChanged time.Time
}

// Options of New.
type Options struct {
	Source  Source
	Version string
	// PerPeer adds series for each peer.
	PerPeer bool
	Log     *slog.Logger
}

// Metrics holds what is observed. It is a tunnel.Observer.
type Metrics struct {
	registry *prometheus.Registry
	log      *slog.Logger

	probes      prometheus.Counter
	rtt         prometheus.Histogram
	out, in     prometheus.Observer // loss
	rpcs        *prometheus.HistogramVec
	rpcFailures *prometheus.CounterVec
}

var (
	// rttBuckets are in seconds: from hosts on one switch to the other side of the world.
	rttBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}
	// lossBuckets are shares of 1. The first has the windows without any loss.
	lossBuckets = []float64{0, .0001, .001, .01, .02, .05, .1, .25, .5}
	// rpcBuckets are in seconds, up to the longest that an RPC is waited for.
	rpcBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
)

// New returns Metrics that are scraped from o.Source.
func New(o Options) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		log:      o.Log,
		probes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twill_probes_sent_total", Help: "Probes sent to peers that run twill. How many were answered is twill_probe_rtt_seconds_count.",
		}),
		rtt: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "twill_probe_rtt_seconds", Help: "Round-trip times of answered probes, over all peers.", Buckets: rttBuckets,
		}),
		rpcs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "twill_etcd_request_duration_seconds", Help: "Time until etcd had answered a request, or it failed.", Buckets: rpcBuckets,
		}, []string{"method"}),
		rpcFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twill_etcd_request_errors_total", Help: "Requests to etcd that failed, by gRPC code.",
		}, []string{"code"}),
	}
	loss := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "twill_path_loss_ratio",
		Help:    "Share of the packets between this host and a peer that were lost in some 15 s, by the counters of both; one observation for each peer, direction and time.",
		Buckets: lossBuckets,
	}, []string{directionLabel})
	m.out, m.in = loss.WithLabelValues(transmit), loss.WithLabelValues(receive)
	for _, code := range []string{"Unavailable", "DeadlineExceeded"} { // so that the first one is an increase
		m.rpcFailures.WithLabelValues(code)
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "twill_build_info", Help: "1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": o.Version, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
	m.registry.MustRegister(
		m.probes, m.rtt, loss, m.rpcs, m.rpcFailures, build,
		&collector{source: o.Source, perPeer: o.PerPeer},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{PidFn: procID}),
	)
	return m
}

// procID is by which number /proc knows this process: not os.Getpid's where that is of an inner PID namespace.
func procID() (int, error) {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(self)
}

// maxScrapes is how many scrapes are answered at a time.
const maxScrapes = 4

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
		ErrorHandling:       promhttp.HTTPErrorOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}

// ProbeSent, RoundTrip and Losses make Metrics a tunnel.Observer.
func (m *Metrics) ProbeSent() { m.probes.Inc() }

// RoundTrip observes an answered probe.
func (m *Metrics) RoundTrip(rtt time.Duration) { m.rtt.Observe(rtt.Seconds()) }

// Losses observes a window of time on the way to a peer, and back.
func (m *Metrics) Losses(out, in tunnel.Loss) {
	observeLoss(m.out, out)
	observeLoss(m.in, in)
}

func observeLoss(to prometheus.Observer, l tunnel.Loss) {
	if l.Sent > 0 {
		to.Observe(float64(l.Lost) / float64(l.Sent))
	}
}

// RPC observes a request to etcd; code is gRPC's.
func (m *Metrics) RPC(method, code string, took time.Duration) {
	m.rpcs.WithLabelValues(method).Observe(took.Seconds())
	if code != "OK" {
		m.rpcFailures.WithLabelValues(code).Inc()
	}
}
