package web

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/munnerz/goautoneg"

	"twill/internal/api"
)

func health(d Daemon) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+LivePath, func(w http.ResponseWriter, r *http.Request) { answerHealth(w, r, d.Live()) })
	mux.HandleFunc("GET "+ReadyPath, func(w http.ResponseWriter, r *http.Request) { answerHealth(w, r, d.Ready()) })
	return mux
}

// answerHealth answers 503 where h is failed, else 200; the body says why h is not ok, and then of notices.
func answerHealth(w http.ResponseWriter, r *http.Request, h api.Health) {
	status := http.StatusOK
	if h.State == api.HealthFailed {
		status = http.StatusServiceUnavailable
	}
	w.Header().Add("Vary", "Accept")
	if wantsJSON(r) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(h) // the client has gone: nobody to tell
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, h.State)
	writeProblems(w, "", h.Problems)
	writeProblems(w, "notice: ", h.Notices)
}

func writeProblems(w io.Writer, prefix string, problems []api.Problem) {
	for _, p := range problems {
		fmt.Fprintf(w, "%s%s: %s\n", prefix, p.Code, oneLine(p.Problem))
		if p.Remedy != "" {
			fmt.Fprintf(w, "  to do: %s\n", oneLine(p.Remedy))
		}
	}
}

// oneLine keeps what others wrote from looking like a line of ours.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// wantsJSON goes by ?format=, else by Accept.
func wantsJSON(r *http.Request) bool {
	if f := r.URL.Query().Get("format"); f != "" {
		return f == "json"
	}
	const jsonType = "application/json"
	return goautoneg.Negotiate(r.Header.Get("Accept"), []string{"text/plain", jsonType}) == jsonType
}
