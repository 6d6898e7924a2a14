package daemon

import (
	"errors"
	"os"
	"path/filepath"
)

// LastEndPath is where a daemon that ran and ended with an error leaves the reason
// for `twill check`; the next that is ready removes it.
func LastEndPath(runDir string) string { return filepath.Join(runDir, "last-end") }

// noteEnd keeps the reason of the end.
func (d *daemon) noteEnd(err error) {
	if err != nil {
		d.warnIf(os.WriteFile(LastEndPath(d.RunDir), []byte(err.Error()+"\n"), 0o644))
	}
}

func (d *daemon) forgetEnd() {
	if err := os.Remove(LastEndPath(d.RunDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.warnIf(err)
	}
}
