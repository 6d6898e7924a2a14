package daemon

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockDir locks a directory until the returned file is closed or the process
// ends. unix.EWOULDBLOCK: another process holds it.
func lockDir(path string) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return dir, nil
}
