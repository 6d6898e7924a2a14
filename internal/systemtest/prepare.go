package systemtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

const (
	// release is the Debian that the machines run.
	release = "bookworm"
	// treeVersion is for changes of how the tree is made that its packages do not tell.
	treeVersion = "1"
)

// treePackages are what a machine has beside Debian's minimum: what an operator has there before twill comes.
var treePackages = []string{
	"systemd", "systemd-sysv", "dbus", "iproute2", "iptables", "etcd-server", "docker.io", "busybox-static", "ca-certificates", "procps",
}

// Prepared is what the machines are made of.
type Prepared struct {
	Tree     string   // a root directory that nothing may change
	Packages []string // DEBs of twill, each newer than the one before
	Run      string   // tells this test from others at the same time
}

// Prepare builds packages of twill, one for each version, from the source in root into dir, and the tree unless the user's cache
// has it. It says on out what it does.
func Prepare(ctx context.Context, out io.Writer, root, dir string, versions ...string) (Prepared, error) {
	p := Prepared{Run: strconv.Itoa(os.Getpid())}
	for _, version := range versions {
		fmt.Fprintln(out, "build the package", version)
		deb, err := buildPackage(ctx, root, dir, version)
		if err != nil {
			return p, err
		}
		p.Packages = append(p.Packages, deb)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return p, fmt.Errorf("cache of the Debian tree: %w", err)
	}
	p.Tree, err = tree(ctx, out, filepath.Join(cache, "twill-system-test"))
	return p, err
}

// buildPackage returns the path of a DEB for this machine's architecture.
func buildPackage(ctx context.Context, root, dir, version string) (string, error) {
	cmd := exec.CommandContext(ctx, "packaging/build", dir)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "VERSION="+version, "ARCHES="+runtime.GOARCH)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the package %s: %w:\n%s", version, err, output)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "twill_"+version+"*_"+runtime.GOARCH+".deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("build the package %s: found %v, %w: want one DEB", version, debs, err)
	}
	return debs[0], nil
}

// tree returns the path of the tree below cache, and makes it if it is not there. A tree gets its name when it is complete.
func tree(ctx context.Context, out io.Writer, cache string) (string, error) {
	name := strings.Join(append([]string{release, treeVersion}, treePackages...), "+")
	path := filepath.Join(cache, name)
	if _, err := os.Stat(path); err == nil {
		fmt.Fprintln(out, "use the Debian tree", path)
		return path, nil
	}
	fmt.Fprintln(out, "make the Debian tree", path)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	partial, err := os.MkdirTemp(cache, "partial")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(partial)
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include="+strings.Join(treePackages, ","), release, partial)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("debootstrap: %w:\n%s", err, output)
	}
	// Each machine makes its own at its first boot.
	if err := os.WriteFile(filepath.Join(partial, "etc/machine-id"), nil, 0o444); err != nil {
		return "", err
	}
	if err := os.Chmod(partial, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(partial, path); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return path, nil
}
