package daemon

import (
	"bufio"
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

// Starting returns the process that has the lock of a run directory: asked of a daemon whose control socket nobody answers on, it
// is one that starts, or waits for etcd. It looks at /proc/locks and takes no lock itself, which could keep a daemon from starting.
// false: nobody, as far as can be seen.
func Starting(runDir string) (pid int, found bool) {
	var dir unix.Stat_t
	if unix.Stat(runDir, &dir) != nil {
		return 0, false
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// proc(5): 1: FLOCK  ADVISORY  WRITE 1234 00:1a:567 0 EOF
		var number, kind, mode, access string
		var major, minor uint32
		var inode uint64
		n, _ := fmt.Sscanf(lines.Text(), "%s %s %s %s %d %x:%x:%d", &number, &kind, &mode, &access, &pid, &major, &minor, &inode)
		if n == 8 && kind == "FLOCK" && inode == dir.Ino && unix.Mkdev(major, minor) == dir.Dev {
			return pid, true
		}
	}
	return 0, false
}
