package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"twill/internal/api"
	"twill/internal/metrics"
	"twill/subnet"
	"twill/tunnel"
)

func TestLive(t *testing.T) {
	every := time.Minute
	for _, tt := range []struct {
		name  string
		pulse *pulse
		state api.HealthState
		why   string // a part of it
	}{
		{"still starting", nil, api.HealthOK, ""},
		{"alive", &pulse{at: time.Now(), every: every}, api.HealthOK, ""},
		{"alive at the look before", &pulse{at: time.Now().Add(-every - time.Second), every: every}, api.HealthOK, ""},
		{"a loop hangs", &pulse{at: time.Now(), every: every, err: errors.New("loop 3 hangs")}, api.HealthFailed, "loop 3 hangs"},
		{"nobody looks", &pulse{at: time.Now().Add(-3 * every), every: every}, api.HealthFailed, "not been looked at for 3m"},
	} {
		var d daemon
		d.pulse.Store(tt.pulse)
		checkHealth(t, tt.name, pages{&d}.Live(), tt.state, tt.why)
	}
}

// What keeps packets from passing makes a host unready, all else only degraded.
func TestReady(t *testing.T) {
	for _, tt := range []struct {
		name  string
		set   func(*daemon)
		view  subnet.View
		state api.HealthState
		why   string
	}{
		{"as it should be", nil, subnet.View{Etcd: subnet.EtcdState{Serves: true}}, api.HealthOK, ""},
		{"etcd away", nil, subnet.View{Etcd: subnet.EtcdState{Err: "connection refused"}}, api.HealthDegraded, "connection refused"},
		{"config", nil, subnet.View{Etcd: subnet.EtcdState{Serves: true}, ConfigProblem: "another network"}, api.HealthDegraded, "another network"},
		{"subnet file", func(d *daemon) { d.troubles.subnetFile.note(errors.New("read-only")) }, subnet.View{Etcd: subnet.EtcdState{Serves: true}}, api.HealthDegraded, "read-only"},
		{"underlay gone", func(d *daemon) { d.troubles.underlay.note(errors.New("no address")) }, subnet.View{}, api.HealthFailed, "no address"},
		{"route gone", func(d *daemon) { d.troubles.device.note(errors.New("file exists")) }, subnet.View{}, api.HealthFailed, "file exists"},
		{"fenced", func(d *daemon) { d.fenced.Store(true) }, subnet.View{Etcd: subnet.EtcdState{Serves: true}}, api.HealthFailed, "another host"},
		{"starting", func(d *daemon) { d.up.Store(false) }, subnet.View{}, api.HealthFailed, "starting"},
		{"waiting", func(d *daemon) {
			d.up.Store(false)
			why := "waiting for etcd"
			d.waiting.Store(&why)
		}, subnet.View{}, api.HealthFailed, "waiting for etcd"},
	} {
		d := &daemon{troubles: newTroubles(slog.New(slog.DiscardHandler)), manager: new(subnet.Manager), tunnel: new(tunnel.Tunnel)}
		var none *Table
		d.table.Store(none.Next(tt.view))
		d.up.Store(true)
		if tt.set != nil {
			tt.set(d)
		}
		checkHealth(t, tt.name, pages{d}.Ready(), tt.state, tt.why)
	}
}

// Before the end of the start there is nothing to tell of, and nothing is touched.
func TestPagesOfAStart(t *testing.T) {
	p := pages{&daemon{}}
	if _, known := p.Status(); known {
		t.Error("a status is known")
	}
	if _, known := p.Peers(); known {
		t.Error("peers are known")
	}
}

// scraped is a daemon with n peers, as Prometheus finds it.
func scraped(tb testing.TB, n int, perPeer bool) pages {
	tb.Helper()
	d := &daemon{troubles: newTroubles(slog.New(slog.DiscardHandler)), manager: new(subnet.Manager), tunnel: idleTunnel(tb)}
	d.PeerMetrics = perPeer
	d.table.Store(crowd(n))
	d.up.Store(true)
	return pages{d}
}

// Nothing is told of each peer unless the series of peers are wanted; health is that of /readyz.
func TestSnapshot(t *testing.T) {
	for _, perPeer := range []bool{false, true} {
		p := scraped(t, 3, perPeer)
		s := p.Snapshot()
		if got := len(s.Peers); (got == 3) != perPeer || !perPeer && got != 0 {
			t.Errorf("series of peers %v: the snapshot has %d peers", perPeer, got)
		}
		if !reflect.DeepEqual(s.Ready, p.Ready()) || s.Ready.State != api.HealthDegraded { // without etcd
			t.Errorf("the snapshot is %+v, /readyz %+v", s.Ready, p.Ready())
		}
	}
}

// BenchmarkScrape is what a scrape of a daemon with 10,000 peers costs, from the counters to the answer.
func BenchmarkScrape(b *testing.B) {
	for _, perPeer := range []bool{false, true} {
		b.Run(fmt.Sprintf("perPeer=%v", perPeer), func(b *testing.B) {
			h := metrics.New(metrics.Options{Source: scraped(b, 10_000, perPeer), PerPeer: perPeer, Log: slog.New(slog.DiscardHandler)}).Handler()
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
			}
		})
	}
}

func checkHealth(t *testing.T, name string, h api.Health, state api.HealthState, why string) {
	t.Helper()
	if h.State != state || (len(h.Problems) == 0) != (state == api.HealthOK) || h.Problems == nil || h.Notices == nil {
		t.Errorf("%s: %+v, want %s", name, h, state)
	}
	all := ""
	for _, p := range h.Problems {
		all += p.Problem
		if p.Code == "" || p.Problem == "" {
			t.Errorf("%s: %+v says too little", name, p)
		}
	}
	if !strings.Contains(all, why) {
		t.Errorf("%s: %q, want a word on %q", name, all, why)
	}
}

func TestHTTPAddressesThatCollide(t *testing.T) {
	addr := netip.MustParseAddrPort
	every := netip.AddrPortFrom(netip.Addr{}, 80)
	for _, tt := range []struct {
		healthz, http netip.AddrPort
		collide       bool
	}{
		{addr("0.0.0.0:0"), addr("127.0.0.1:80"), false},
		{addr("0.0.0.0:0"), netip.AddrPort{}, false},
		{addr("0.0.0.0:80"), addr("127.0.0.1:80"), true},
		{addr("192.0.2.1:80"), addr("127.0.0.1:80"), false},
		{addr("192.0.2.1:80"), addr("192.0.2.1:80"), true},
		{addr("192.0.2.1:80"), every, true},
		{addr("192.0.2.1:81"), every, false},
	} {
		if err := (Config{Healthz: tt.healthz, HTTP: tt.http}).checkHTTP(); (err != nil) != tt.collide {
			t.Errorf("healthz %s, http %s: %v, want a collision: %v", tt.healthz, tt.http, err, tt.collide)
		}
	}
}
