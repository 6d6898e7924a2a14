package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/netutil"

	"twill/internal/api"
	"twill/internal/metrics"
	"twill/internal/web"
	"twill/tunnel"
)

const (
	// maxHTTPClients is how many connections one listener has at a time.
	maxHTTPClients = 64
	// answerTimeout is enough for the largest answer over a slow link, idleTimeout for Prometheus to keep its connection.
	answerTimeout = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	// maxHeader bounds a request, which has no body that anybody reads.
	maxHeader = 16 << 10
)

// httpServer serves one of the addresses that flags ask for.
type httpServer struct {
	*control
	flag  string
	ended chan error // has one value once it no longer serves
}

// listenHTTP opens the HTTP addresses and serves them from now on, so that a start that waits for etcd can be seen to.
func (d *daemon) listenHTTP(ctx context.Context) error {
	if d.HTTP.Port() != 0 {
		d.metrics = metrics.New(metrics.Options{Source: pages{d}, Version: d.Version, PerPeer: d.PeerMetrics, Log: d.Log})
		h := web.New(web.Options{Daemon: pages{d}, Metrics: d.metrics.Handler(), Names: d.httpNames()})
		if err := d.serveHTTP(ctx, "http-addr", d.HTTP, h); err != nil {
			return err
		}
	}
	return d.serveHTTP(ctx, "healthz-ip, healthz-port", d.Healthz, web.Health(pages{d}))
}

// httpNames are those by which HTTP clients may call this host.
func (d *daemon) httpNames() []string {
	names := append([]string{d.NodeName}, d.HTTPHosts...)
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	return names
}

func (d *daemon) serveHTTP(ctx context.Context, flag string, addr netip.AddrPort, h http.Handler) error {
	if addr.Port() == 0 {
		return nil
	}
	at := fmt.Sprint(":", addr.Port())
	if addr.Addr().IsValid() {
		at = addr.String()
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	s := &httpServer{control: newControl(netutil.LimitListener(l, maxHTTPClients), h, d.Log), flag: flag, ended: make(chan error, 1)}
	s.server.WriteTimeout, s.server.IdleTimeout, s.server.MaxHeaderBytes = answerTimeout, idleTimeout, maxHeader
	d.http = append(d.http, s)
	d.onUndo(func(context.Context) { s.server.Close() })
	go func() { s.ended <- named(flag, s.run(ctx)) }()
	return nil
}

// wait returns when s no longer serves, which the end of ctx makes it.
func (s *httpServer) wait(ctx context.Context) error {
	select {
	case err := <-s.ended:
		return err
	case <-ctx.Done():
		return s.server.Close()
	}
}

// pages is the daemon as web sees it.
type pages struct{ d *daemon }

func (p pages) Status() (api.Status, bool) {
	if !p.d.up.Load() {
		return api.Status{}, false
	}
	return p.d.status(), true
}

func (p pages) Peers() (api.Peers, bool) {
	if !p.d.up.Load() {
		return api.Peers{}, false
	}
	return reportPeers(p.d.table.Load(), int(p.d.mtu.Load()), time.Now()), true
}

// Snapshot is for the metrics.
func (p pages) Snapshot() metrics.Snapshot {
	s := metrics.Snapshot{Live: p.Live(), Started: p.d.up.Load()}
	if !s.Started {
		s.Ready = p.Ready()
		return s
	}
	table := p.d.table.Load()
	s.Status = p.d.status()
	s.Ready = p.d.ready(findings{s.Status.Problems, s.Status.Notices})
	if p.d.PeerMetrics {
		s.Peers = reportPeers(table, s.Status.MTU, time.Now()).Peers
	}
	s.Tunnel = p.d.tunnel.Stats()
	s.TableChanged = table.Changed
	return s
}

// Live goes by the latest look at the loops, which hangs itself if it is overdue.
func (p pages) Live() api.Health {
	last := p.d.pulse.Load()
	if last == nil { // still starting
		return health(api.HealthOK)
	}
	hung := api.Problem{Code: api.ProblemHung, Remedy: "restart twill; under systemd its watchdog does that by itself"}
	switch late := time.Since(last.at); {
	case last.err != nil:
		hung.Problem = last.err.Error()
	case late > 2*last.every+requestTimeout:
		hung.Problem = fmt.Sprintf("the loops have not been looked at for %v", late.Round(time.Second))
	default:
		return health(api.HealthOK)
	}
	return health(api.HealthFailed, hung)
}

// Ready is failed while packets do not pass: before the first table, without an underlay or device, after another host has
// proven to own our subnet. Without etcd they do pass.
func (p pages) Ready() api.Health {
	d := p.d
	if !d.up.Load() {
		starting := api.Problem{Code: api.ProblemStarting, Problem: "the daemon is starting"}
		if w := d.waiting.Load(); w != nil {
			starting.Problem = *w
		}
		return health(api.HealthFailed, starting)
	}
	return d.ready(d.findings(d.table.Load()))
}

// ready is how a daemon is that has started and of which this was found.
func (d *daemon) ready(found findings) api.Health {
	problems := found.problems
	if d.fenced.Load() {
		problems = append([]api.Problem{{
			Code:    api.ProblemFenced,
			Problem: "this host's subnet belongs to another host now; nothing is forwarded",
			Remedy:  "start twill again, which takes another subnet; then restart the container runtime",
		}}, problems...)
	}
	state := api.HealthOK
	for _, p := range problems {
		state = worse(state, p.Code)
	}
	h := health(state, problems...)
	h.Notices = found.notices
	return h
}

// worse is the state with one more problem.
func worse(state api.HealthState, code string) api.HealthState {
	switch code {
	case api.ProblemFenced, api.ProblemUnderlay, api.ProblemDevice:
		return api.HealthFailed
	}
	if state == api.HealthOK {
		return api.HealthDegraded
	}
	return state
}

func health(state api.HealthState, problems ...api.Problem) api.Health {
	return api.Health{Schema: api.Schema, State: state, Problems: append([]api.Problem{}, problems...), Notices: []api.Problem{}} // not null in JSON
}

// observer is nil where nobody asks for what it would be told.
func (d *daemon) observer() tunnel.Observer {
	if d.metrics == nil {
		return nil
	}
	return d.metrics
}
