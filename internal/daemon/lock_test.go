package daemon

import (
	"os"
	"testing"
)

// Who looks for a daemon that starts finds it, and does not get into its way.
func TestStarting(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	if pid, found := Starting(dir); found {
		t.Errorf("process %d starts, before any does", pid)
	}
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if pid, found := Starting(dir); !found || pid != os.Getpid() {
		t.Errorf("process %d starts (%v), want this one, %d", pid, found, os.Getpid())
	}
	if pid, found := Starting(other); found {
		t.Errorf("process %d starts in another run directory", pid)
	}
	lock.Close()
	if pid, found := Starting(dir); found {
		t.Errorf("process %d starts, after its end", pid)
	}
}
