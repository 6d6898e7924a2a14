package daemon

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestParseLogLevel(t *testing.T) {
	for text, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "WARN": slog.LevelWarn, "Error": slog.LevelError} {
		if got, err := ParseLogLevel(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "loud", "info+2", "warning", " info"} {
		if got, err := ParseLogLevel(text); err == nil || !strings.Contains(err.Error(), "want debug, info, warn or error") {
			t.Errorf("%q: %v, %v; want an error that names the levels", text, got, err)
		}
	}
}

// A change is logged once, whichever way it goes; what is no change or no level is not.
func TestSetLogLevel(t *testing.T) {
	var log bytes.Buffer
	level := new(slog.LevelVar)
	d := &daemon{Config: Config{LogLevel: level, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))}}
	for _, tt := range []struct {
		level  string
		status int
		now    slog.Level
		logged bool
	}{
		{"error", 200, slog.LevelError, true},
		{"error", 200, slog.LevelError, false},
		{"debug", 200, slog.LevelDebug, true},
		{"loud", 400, slog.LevelDebug, false},
		{"", 400, slog.LevelDebug, false},
		{"warn", 200, slog.LevelWarn, true},
	} {
		log.Reset()
		w := httptest.NewRecorder()
		d.handler().ServeHTTP(w, httptest.NewRequest("PUT", "/v1/log-level?level="+tt.level, nil))
		if logged := strings.Contains(log.String(), "log level was changed"); w.Code != tt.status || level.Level() != tt.now || logged != tt.logged {
			t.Errorf("%q: %d, the level is %v, logged %q", tt.level, w.Code, level, &log)
		}
	}
}
