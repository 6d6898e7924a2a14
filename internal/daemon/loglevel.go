package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"twill/internal/api"
)

// ParseLogLevel reads one of the four levels.
func ParseLogLevel(s string) (slog.Level, error) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(s, level.String()) {
			return level, nil
		}
	}
	return 0, fmt.Errorf("log-level: %.64q; want debug, info, warn or error", s)
}

func (d *daemon) logLevel(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, api.LogLevel{Schema: api.Schema, Level: strings.ToLower(d.LogLevel.Level().String())})
}

// setLogLevel changes it until the daemon ends, and logs who did.
func (d *daemon) setLogLevel(w http.ResponseWriter, r *http.Request) {
	level, err := ParseLogLevel(r.URL.Query().Get("level"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	former := d.LogLevel.Level()
	d.LogLevel.Set(level)
	if level != former {
		client, _ := r.Context().Value(credentialsKey{}).(credentials)
		// At a level that is seen before and after.
		d.Log.Log(context.Background(), max(former, level, slog.LevelInfo), "the log level was changed, until the daemon ends", "level", level, "former", former, "by-uid", client.uid)
	}
	d.logLevel(w, r)
}
