package systemtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cgroupPrefix begins the names of the control groups that a test makes: one for each machine, in each hierarchy, because
// machines that shared one would take each other's processes for theirs.
const cgroupPrefix = "twill-system-test-"

// hierarchies returns where the control group hierarchies are mounted, of version 1 and 2.
func hierarchies() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts") // fstab(5)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && strings.HasPrefix(fields[2], "cgroup") {
			dirs = append(dirs, fields[1])
		}
	}
	if len(dirs) == 0 {
		return nil, errors.New("no control group hierarchy is mounted, which systemd needs; mount one on /sys/fs/cgroup")
	}
	return dirs, nil
}

// makeCgroups makes a control group in each hierarchy and returns their directories.
func makeCgroups(name string) ([]string, error) {
	mounts, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, mount := range mounts {
		dir := filepath.Join(mount, cgroupPrefix+name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make control group: %w", err)
		}
		dirs = append(dirs, dir)
		// A new cpuset of version 1 has no processors and takes no process.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(mount, file))
			if err != nil {
				continue // not this hierarchy
			}
			if err := os.WriteFile(filepath.Join(dir, file), value, 0); err != nil {
				return nil, fmt.Errorf("set up control group: %w", err)
			}
		}
	}
	return dirs, nil
}

// RemoveCgroups removes the control groups that tests have left and that no process is in.
func RemoveCgroups() error {
	mounts, err := hierarchies()
	if err != nil {
		return err
	}
	for _, mount := range mounts {
		tops, err := filepath.Glob(filepath.Join(mount, cgroupPrefix+"*"))
		if err != nil {
			return err
		}
		for _, top := range tops {
			removeCgroup(top)
		}
	}
	return nil
}

// removeCgroup removes a group with those below it, as far as they are empty.
func removeCgroup(top string) {
	var dirs []string
	filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		os.Remove(dir) // one with processes in it stays
	}
}
