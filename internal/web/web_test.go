package web

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"twill/internal/api"
)

// fake is a daemon that is as a test wants it.
type fake struct {
	live, ready api.Health
	status      api.Status
	peers       api.Peers
	starting    bool
}

func (f *fake) Live() api.Health           { return f.live }
func (f *fake) Ready() api.Health          { return f.ready }
func (f *fake) Status() (api.Status, bool) { return f.status, !f.starting }
func (f *fake) Peers() (api.Peers, bool)   { return f.peers, !f.starting }

var (
	ok       = api.Health{Schema: api.Schema, State: api.HealthOK, Problems: []api.Problem{}}
	degraded = api.Health{Schema: api.Schema, State: api.HealthDegraded, Problems: []api.Problem{
		{Code: api.ProblemEtcdAway, Problem: "etcd is away: connection refused", Remedy: "look whether etcd runs"},
	}}
	noticed = api.Health{Schema: api.Schema, State: api.HealthOK, Notices: []api.Problem{
		{Code: api.ProblemPeersUnreachable, Problem: "peers without an answer:\nhost3", Remedy: "look there"},
	}}
	failed = api.Health{Schema: api.Schema, State: api.HealthFailed, Problems: []api.Problem{
		{Code: api.ProblemUnderlay, Problem: "no address\nready: not", Remedy: "give it one"},
	}}
)

func handler(f *fake, names ...string) http.Handler {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("metrics")) })
	return New(Options{Daemon: f, Metrics: metrics, Names: names})
}

// get asks h, by the host's address unless set says otherwise.
func get(h http.Handler, path string, set ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "192.0.2.1:8286"
	for _, f := range set {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func accept(types string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Accept", types) }
}

func TestHealth(t *testing.T) {
	for _, tt := range []struct {
		name   string
		health api.Health
		status int
		text   string
	}{
		{"ok", ok, 200, "ok\n"},
		{"degraded", degraded, 200, "degraded\netcd-away: etcd is away: connection refused\n  to do: look whether etcd runs\n"},
		{"notice", noticed, 200, "ok\nnotice: peers-unreachable: peers without an answer: host3\n  to do: look there\n"},
		{"failed", failed, 503, "failed\nunderlay: no address ready: not\n  to do: give it one\n"},
	} {
		h := handler(&fake{live: tt.health, ready: tt.health})
		for _, path := range []string{LivePath, ReadyPath} {
			w := get(h, path)
			if w.Code != tt.status || w.Body.String() != tt.text || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%s %s: %d %q %v", tt.name, path, w.Code, w.Body, w.Header())
			}
			w = get(h, path+"?format=json")
			var got api.Health
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != tt.status || got.State != tt.health.State || len(got.Problems) != len(tt.health.Problems) {
				t.Errorf("%s %s as JSON: %d %s, %v", tt.name, path, w.Code, w.Body, err)
			}
		}
	}
}

func TestHealthFormat(t *testing.T) {
	h := handler(&fake{live: ok, ready: ok})
	for _, tt := range []struct {
		query, accept string
		json          bool
	}{
		{"", "", false},
		{"", "*/*", false},
		{"", "text/html,application/xhtml+xml,*/*;q=0.8", false},
		{"", "application/json", true},
		{"", "text/plain;q=0.5, application/json", true},
		{"", "text/plain, application/json;q=0.5", false},
		{"?format=json", "text/plain", true},
		{"?format=text", "application/json", false},
	} {
		w := get(h, ReadyPath+tt.query, accept(tt.accept))
		if got := w.Header().Get("Content-Type") == "application/json"; got != tt.json {
			t.Errorf("%q with Accept %q: JSON %v, want %v", tt.query, tt.accept, got, tt.json)
		}
		if w.Header().Get("Vary") != "Accept" {
			t.Errorf("Vary is %q", w.Header().Get("Vary"))
		}
	}
}

// A name that is not this host's was made to lead here by somebody else.
func TestHostNames(t *testing.T) {
	h := handler(&fake{live: ok}, "Node1", "twill.example.com.")
	for host, want := range map[string]int{
		"192.0.2.1":              200,
		"192.0.2.1:8286":         200,
		"[2001:db8::1]:8286":     200,
		"[2001:db8::1]":          200,
		"localhost:8286":         200,
		"node1":                  200,
		"NODE1.:8286":            200,
		"twill.example.com:8286": 200,
		"evil.example.net":       421,
		"evil.example.net:8286":  421,
		"node1.evil.example.net": 421,
		"":                       421,
		"192.0.2.1.evil.test":    421,
	} {
		for _, path := range []string{LivePath, MetricsPath, "/"} {
			w := get(h, path, func(r *http.Request) { r.Host = host })
			if (w.Code == 421) != (want == 421) {
				t.Errorf("%s as %q: %d, want %d", path, host, w.Code, want)
			}
		}
	}
	if w := get(Health(&fake{live: ok}), LivePath, func(r *http.Request) { r.Host = "anything" }); w.Code != 200 {
		t.Errorf("Flannel's /healthz by another name: %d", w.Code)
	}
}

// Nothing can be changed, and nothing but the answer be made of one.
func TestOnlyReads(t *testing.T) {
	h := handler(&fake{live: ok, ready: ok})
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"} {
		for _, path := range []string{LivePath, ReadyPath, MetricsPath} {
			if w := get(h, path, func(r *http.Request) { r.Method = method }); w.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d, want 405", method, path, w.Code)
			}
		}
	}
	for _, path := range []string{"/", LivePath, MetricsPath, "/nothing"} {
		header := get(h, path).Header()
		if !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") || header.Get("X-Content-Type-Options") != "nosniff" ||
			header.Get("X-Frame-Options") != "DENY" || header.Get("Cache-Control") != "no-store" || header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, header)
		}
	}
	if w := get(h, "/nothing"); w.Code != http.StatusNotFound {
		t.Errorf("/nothing: %d, want 404", w.Code)
	}
}

func TestHealthAlone(t *testing.T) {
	h := Health(&fake{live: ok, ready: failed})
	for path, want := range map[string]int{LivePath: 200, ReadyPath: 503, MetricsPath: 404, "/": 404} {
		if w := get(h, path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}
