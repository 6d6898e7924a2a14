package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
)

// What lasts is said once, and its end once.
func TestTroubleIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	tr := trouble{log: slog.New(slog.NewTextHandler(&log, nil)), begins: "begins", ends: "ends"}
	for _, err := range []error{nil, errors.New("a"), errors.New("a"), errors.New("b"), errors.New("b"), nil, nil} {
		tr.note(err)
	}
	if begins, ends := strings.Count(log.String(), "begins"), strings.Count(log.String(), "ends"); begins != 2 || ends != 1 {
		t.Errorf("%d begins, %d ends in\n%s", begins, ends, &log)
	}
}

// A socket of systemd's that is gone is no line for each feeding of the watchdog.
func TestDeafSystemdIsSaidOnce(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	var log bytes.Buffer
	d := &daemon{troubles: newTroubles(slog.New(slog.NewTextHandler(&log, nil)))}
	for range 3 {
		d.notify("WATCHDOG=1")
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, &log)
	}
}
