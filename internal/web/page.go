package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"os"
	"time"

	"twill/internal/api"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"ago": ago, "bytes": size, "count": count, "percent": percent, "rate": bitRate, "rtt": rttText,
}).Parse(pageHTML))

// pagePolicy allows the page's own style and script, and to ask for the page again.
var pagePolicy = "default-src 'none'; style-src " + source(pageCSS) + "; script-src " + source(pageJS) +
	"; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// source names an inline text in a Content-Security-Policy.
func source(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// page serves the status page.
type page struct {
	daemon Daemon
	rates  rates
	now    func() time.Time
}

// view is what the template shows.
type view struct {
	CSS      template.CSS
	JS       template.JS
	Now      time.Time
	Host     string // by the kernel, before the daemon knows its node name
	Live     api.Health
	Ready    api.Health
	Verdict  verdict
	Started  bool
	Status   api.Status
	Tx, Rx   traffic
	States   []stateCount
	Picture  picture
	Peers    table
	Interval int // seconds between refreshes
}

// verdict is how the host is, in words and as a class of the style.
type verdict struct{ Class, Word, Sentence string }

// refreshEvery is in seconds.
const refreshEvery = 5

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := p.view(r)
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, v); err != nil {
		http.Error(w, "the page cannot be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	_, _ = w.Write(body.Bytes()) // the client has gone: nobody to tell
}

func (p *page) view(r *http.Request) view {
	v := view{
		CSS: template.CSS(pageCSS), JS: template.JS(pageJS), Interval: refreshEvery,
		Now: p.now(), Live: p.daemon.Live(), Ready: p.daemon.Ready(),
	}
	v.Verdict = judge(v.Live, v.Ready)
	status, started := p.daemon.Status()
	peers, known := p.daemon.Peers()
	if v.Started = started && known; !v.Started {
		v.Host, _ = os.Hostname() // without one there is none
		return v
	}
	v.Status = status
	rows, tx, rx := p.rates.rows(peers.Peers, status, v.Now)
	v.Tx, v.Rx = tx, rx
	v.States = countStates(peers.Peers)
	v.Picture = draw(rows)
	v.Peers = newTable(rows, r.URL.Query())
	return v
}

func judge(live, ready api.Health) verdict {
	switch {
	case live.State == api.HealthFailed:
		return verdict{"bad", "Hung", "A loop of the daemon no longer turns."}
	case ready.State == api.HealthFailed && len(ready.Problems) > 0 && ready.Problems[0].Code == api.ProblemStarting:
		return verdict{"wait", "Starting", "No packets pass yet."}
	case ready.State == api.HealthFailed:
		return verdict{"bad", "Not ready", "No packets pass."}
	case ready.State == api.HealthDegraded:
		return verdict{"warn", "Degraded", "Packets pass, but something is wrong."}
	}
	return verdict{"good", "Healthy", "Packets pass."}
}

// stateCount is how many peers are in a state.
type stateCount struct {
	State api.PeerState
	N     int
}

func countStates(peers []api.Peer) []stateCount {
	var counts []stateCount
	for _, state := range api.PeerStates {
		c := stateCount{State: state}
		for i := range peers {
			if peers[i].State == state {
				c.N++
			}
		}
		if c.N > 0 {
			counts = append(counts, c)
		}
	}
	return counts
}

// Problems are those of both kinds of health.
func (v view) Problems() []api.Problem { return append(v.Live.Problems, v.Ready.Problems...) }

// LeaseText says how long the lease still runs.
func (v view) LeaseText() string {
	if v.Status.LeaseLeft == nil {
		return "does not expire"
	}
	left := time.Duration(*v.Status.LeaseLeft * float64(time.Second))
	if left <= 0 {
		return "may have expired"
	}
	return "runs for " + ago(v.Now.Add(-left), v.Now)
}
