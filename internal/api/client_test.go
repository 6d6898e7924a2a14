package api

import (
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func serve(t *testing.T, h http.HandlerFunc) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: h}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return socket
}

func TestGet(t *testing.T) {
	socket := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case PeersPath:
			w.Write([]byte(`{"peers":[{"subnet":"10.5.1.0/24","state":"up"}]}`))
		case StatusPath:
			w.Write([]byte(`{`))
		case PingPath:
			http.Error(w, "no peer is called so", http.StatusNotFound)
		default:
			http.NotFound(w, r)
		}
	})
	var peers Peers
	if err := Get(t.Context(), socket, PeersPath, &peers); err != nil || len(peers.Peers) != 1 || peers.Peers[0].State != StateUp {
		t.Errorf("got %+v, %v", peers, err)
	}
	if err := Get(t.Context(), socket, StatusPath, new(Status)); err == nil {
		t.Error("half an answer was taken for a whole one")
	}
	if err := Get(t.Context(), socket, "/v9", new(Status)); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v, want the server's 404", err)
	}
	var refused *Refused
	if err := Get(t.Context(), socket, PingPath, new(Ping)); !errors.As(err, &refused) || refused.Text != "no peer is called so" {
		t.Errorf("got %v, want the daemon's own words", err)
	}
}

func TestGetWithoutDaemon(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "s")
	if err := Get(t.Context(), missing, PeersPath, new(Peers)); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: got %v, want ErrNotRunning", err)
	}
	// What a killed daemon leaves: a socket file that nobody listens on.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: missing, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := Get(t.Context(), missing, PeersPath, new(Peers)); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a dead socket: got %v, want ErrNotRunning", err)
	}
}
