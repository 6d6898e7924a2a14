//go:build packages

package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A root is a copy-on-write view of this machine's root file system. It ends with the test's mount namespace.
type root struct {
	t   *testing.T
	dir string
}

func newRoot(t *testing.T) *root {
	t.Helper()
	base := t.TempDir()
	mount(t, "tmpfs", base, "tmpfs", 0, "size=1g")
	r := &root{t: t, dir: filepath.Join(base, "root")}
	upper, work := filepath.Join(base, "upper"), filepath.Join(base, "work")
	for _, dir := range []string{r.dir, upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.Unmount(base, unix.MNT_DETACH) })
	mount(t, "overlay", r.dir, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work)
	mount(t, "proc", r.path("proc"), "proc", 0, "")
	mount(t, "/dev", r.path("dev"), "", unix.MS_BIND|unix.MS_REC, "")
	mount(t, "tmpfs", r.path("tmp"), "tmpfs", 0, "")
	mount(t, "tmpfs", r.path("run"), "tmpfs", 0, "mode=0755") // no systemd runs in here
	return r
}

func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mount %s on %s: %v (the test needs root and overlayfs)", kind, target, err)
	}
}

func (r *root) path(p string) string { return filepath.Join(r.dir, p) }

// sh runs a command line in the root and returns what it printed.
func (r *root) sh(line string) string {
	r.t.Helper()
	out, err := r.try(line)
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

func (r *root) try(line string) (string, error) {
	cmd := exec.Command("chroot", r.dir, "/bin/sh", "-c", line)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// put copies a file of this machine to /tmp in the root and returns its path there.
func (r *root) put(path string) string {
	r.t.Helper()
	inside := "/tmp/" + filepath.Base(path)
	if err := os.WriteFile(r.path(inside), must(os.ReadFile(path))(r.t), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return inside
}

func (r *root) exists(path string) bool {
	_, err := os.Lstat(r.path(path))
	return err == nil
}

func (r *root) wantAll(there bool, paths ...string) {
	r.t.Helper()
	for _, p := range paths {
		if r.exists(p) != there {
			r.t.Errorf("%s: exists is %v, want %v", p, !there, there)
		}
	}
}

// leftovers are the files below the system's directories with twill in their names.
func (r *root) leftovers() []string {
	return strings.Fields(r.sh("find /etc /usr /var /run -iname '*twill*' -not -path '/usr/local/*' -not -path '/usr/src/*'"))
}
