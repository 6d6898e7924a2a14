package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"twill/internal/api"
)

// control is an HTTP server on a listener that is already open.
type control struct {
	listener net.Listener
	server   *http.Server
}

const (
	// requestTimeout bounds a client that does not go on.
	requestTimeout = 5 * time.Second
	socketMode     = 0o660
)

// listenControl opens the control socket. A socket file without a listener is
// what a killed daemon leaves; the run directory's lock says that it is ours.
func listenControl(path string, h http.Handler, log *slog.Logger) (*control, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if h, err = onlyAllowed(path, h); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	c := newControl(l, h, log)
	c.server.ConnContext = withCredentials
	return c, nil
}

func newControl(l net.Listener, h http.Handler, log *slog.Logger) *control {
	return &control{listener: l, server: &http.Server{
		Handler:      h,
		ReadTimeout:  requestTimeout,
		WriteTimeout: requestTimeout,
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients' mistakes
	}}
}

// run serves until ctx ends.
func (c *control) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.server.Close() })
	defer stop()
	if err := c.server.Serve(c.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (c *control) close() { c.listener.Close() }

func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PeersPath, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, reportPeers(d.table.Load(), int(d.mtu.Load()), time.Now()))
	})
	mux.HandleFunc("GET "+api.StatusPath, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, d.status()) })
	mux.HandleFunc("GET "+api.PingPath, answer(d.ping))
	mux.HandleFunc("GET "+api.TracePath, answer(d.trace))
	mux.HandleFunc("GET "+api.LogLevelPath, d.logLevel)
	mux.HandleFunc("PUT "+api.LogLevelPath, d.setLogLevel)
	mux.HandleFunc("GET "+api.RuntimePath, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, ownRuntime()) })
	return mux
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone: nobody to tell
}
