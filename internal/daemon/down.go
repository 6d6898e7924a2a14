package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"twill/routes"
	"twill/subnet"
)

// Leftovers names what a daemon has made and leaves when it stops.
type Leftovers struct {
	TunName    string
	RunDir     string
	StateDir   string
	SubnetFile string // "": subnet.env in RunDir
	KeepNodeID bool   // its lease is still in etcd
}

// Down removes rules, device with address and route, and files, and returns
// what it leaves on purpose. What is not there is fine. A daemon that still
// runs is an error.
func Down(l Leftovers) (left []string, err error) {
	if err := routes.CheckCapability(); err != nil {
		return nil, err
	}
	lock, err := l.lock()
	if err != nil {
		return nil, err
	}
	if lock != nil {
		defer lock.Close()
	}
	var errs []error
	if err := routes.RemoveFirewall(l.TunName); err != nil && !errors.Is(err, routes.ErrNoIptables) {
		errs = append(errs, err)
	}
	errs = append(errs, routes.DeleteDevice(l.TunName))
	files := []string{SocketPath(l.RunDir), Config{RunDir: l.RunDir, SubnetFile: l.SubnetFile}.SubnetFilePath(), filepath.Join(l.RunDir, "docker"), LastEndPath(l.RunDir), subnet.CachePath(l.StateDir)}
	if nodeID := subnet.NodeIDPath(l.StateDir); !l.KeepNodeID {
		files = append(files, nodeID)
	} else if _, err := os.Stat(nodeID); err == nil {
		left = append(left, nodeID+": this host's lease is still in etcd, and found again by it")
	}
	for _, path := range files {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if _, err := os.Stat(etcdDir(l.StateDir)); err == nil {
		left = append(left, etcdDir(l.StateDir)+": the embedded etcd's data, every host's leases")
	}
	for _, dir := range []string{l.RunDir, l.StateDir} {
		// A directory that holds something of others stays.
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, err)
		}
	}
	return left, errors.Join(errs...)
}

// CheckStopped returns an error if a daemon runs on the run directory.
func (l Leftovers) CheckStopped() error {
	lock, err := l.lock()
	if lock != nil {
		lock.Close()
	}
	return err
}

// lock keeps a daemon from starting; nil where there is no run directory.
func (l Leftovers) lock() (*os.File, error) {
	lock, err := lockDir(l.RunDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("a twill daemon still runs on run-dir %s; stop it first", l.RunDir)
	}
	return lock, err
}
