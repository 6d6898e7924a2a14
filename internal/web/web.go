package web

import (
	"net/http"
	"time"

	"twill/internal/api"
)

// Daemon is what the answers are made of. Its methods may be called by many at once.
type Daemon interface {
	// Live says whether the loops turn, Ready whether this host carries its pods' packets.
	Live() api.Health
	Ready() api.Health
	// Status and Peers are known once the daemon has started; before, known is false.
	Status() (status api.Status, known bool)
	Peers() (peers api.Peers, known bool)
}

// Paths of the answers.
const (
	LivePath    = "/healthz"
	ReadyPath   = "/readyz"
	MetricsPath = "/metrics"
)

// Options of New.
type Options struct {
	Daemon Daemon
	// Metrics answers MetricsPath.
	Metrics http.Handler
	// Names are those that clients may call this host by, beside its addresses and localhost; see guard.
	Names []string
}

// New returns everything that there is under --http-addr.
func New(o Options) http.Handler {
	mux := health(o.Daemon)
	mux.Handle("GET "+MetricsPath, o.Metrics)
	mux.Handle("GET /{$}", &page{daemon: o.Daemon, now: time.Now})
	return guard(mux, o.Names)
}

// Health returns LivePath and ReadyPath alone, as Flannel's --healthz-port has the first: for whoever asks by whatever name.
func Health(d Daemon) http.Handler { return harden(health(d)) }
