package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// LastEndPath is where a daemon that ended with an error leaves the reason, for those who look when it runs no more. The next one
// that is ready removes it, and so does Down.
func LastEndPath(runDir string) string { return filepath.Join(runDir, "last-end") }

// LastEnd returns why and when the last daemon of a run directory ended; fs.ErrNotExist: as it should, or none ran.
func LastEnd(runDir string) (reason string, at time.Time, err error) {
	path := LastEndPath(runDir)
	info, err := os.Stat(path)
	if err != nil {
		return "", time.Time{}, err
	}
	raw, err := os.ReadFile(path)
	return strings.TrimSpace(string(raw)), info.ModTime(), err
}

// noteEnd keeps the reason of the end. A run directory that this daemon does not have the lock of is another's.
func (d *daemon) noteEnd(reason error) {
	if reason == nil || d.lock == nil {
		return
	}
	line := strings.ReplaceAll(reason.Error(), "\n", "; ") // joined errors have one for each
	d.warnIf(renameio.WriteFile(LastEndPath(d.RunDir), []byte(line+"\n"), 0o644))
}

func (d *daemon) forgetEnd() {
	if err := os.Remove(LastEndPath(d.RunDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.warnIf(err)
	}
}
