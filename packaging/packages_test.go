//go:build packages

// Package packaging tests the packages that packaging/build makes: the same bytes twice, no word from the distributions'
// checkers, and a life from installation to purge. `make test-packages` runs it, as root.
//
// A package is installed in a copy-on-write view of this machine's own root file system (overlayfs) in namespaces of the
// test's own, so that maintainer scripts find a real distribution and change nothing of it.
package packaging

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"twill/internal/lab"
)

// inLab marks the environment of the tests themselves.
const inLab = "TWILL_TEST_PACKAGES"

// TestMain fetches nfpm before it enters the lab, which has no network, and removes all temporary files afterwards.
func TestMain(m *testing.M) {
	if os.Getenv(inLab) != "" {
		lab.Main(m)
	}
	code, err := runInLab()
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		code = 1
	}
	os.Exit(code)
}

func runInLab() (exitCode int, err error) {
	dir, err := os.MkdirTemp("", "twill-packages-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := installNfpm(dir); err != nil {
		return 1, err
	}
	os.Setenv("NFPM", filepath.Join(dir, "nfpm"))
	os.Setenv("TMPDIR", dir)
	os.Setenv(inLab, "1")
	_, exitCode, err = lab.Enter()
	return exitCode, err
}

func installNfpm(dir string) error {
	version, err := os.ReadFile("nfpm-version")
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "install", "github.com/goreleaser/nfpm/v2/cmd/nfpm@"+strings.TrimSpace(string(version)))
	cmd.Env = append(os.Environ(), "GOBIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install nfpm: %w\n%s", err, out)
	}
	return nil
}

// Versions of the two packages that the tests make: the second is an upgrade.
const (
	oldVersion = "1.0.0"
	newVersion = "1.0.1+4.gabcdef0"
)

// built returns the directory of the packages of a version for amd64, made once for all tests.
func built(t *testing.T, version string) string {
	t.Helper()
	return builds[version](t)
}

var builds = map[string]func(*testing.T) string{
	oldVersion: buildOnce(oldVersion, "amd64"),
	newVersion: buildOnce(newVersion, "amd64 arm64"),
}

func buildOnce(version, arches string) func(*testing.T) string {
	var once sync.Once
	var dir string
	return func(t *testing.T) string {
		t.Helper()
		once.Do(func() {
			dir = must(os.MkdirTemp("", "twill-packages-"))(t)
			build(t, ".", dir, version, arches)
		})
		if dir == "" {
			t.Fatal("the packages could not be built")
		}
		return dir
	}
}

// build runs packaging/build of the checkout at root.
func build(t *testing.T, root, out, version, arches string, env ...string) {
	t.Helper()
	if root == "." {
		root = ".."
	}
	cmd := exec.Command(filepath.Join(root, "packaging/build"), out)
	cmd.Env = append(append(os.Environ(), "VERSION="+version, "ARCHES="+arches), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("packaging/build: %v\n%s", err, text)
	}
}

// The names are what dpkg and rpm make of name, version, release and architecture.
func debPath(t *testing.T, version, arch string) string {
	return filepath.Join(built(t, version), "twill_"+version+"-1_"+arch+".deb")
}

func rpmPath(t *testing.T, version, arch string) string {
	return filepath.Join(built(t, version), "twill-"+version+"-1."+arch+".rpm")
}

// The same sources give the same bytes, at another place, with another umask and time zone.
func TestReproducible(t *testing.T) {
	elsewhere := t.TempDir()
	sources := run(t, "git", "-C", "..", "ls-files", "--cached", "--others", "--exclude-standard")
	cmd := exec.Command("sh", "-c", "cd .. && umask 077 && xargs cp --parents -t "+elsewhere+" && cp -r .git "+elsewhere)
	cmd.Stdin = strings.NewReader(sources)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("copy the sources: %v\n%s", err, out)
	}
	again := t.TempDir()
	build(t, elsewhere, again, newVersion, "amd64 arm64", "TZ=Asia/Tokyo", "HOME="+os.Getenv("HOME"))
	first := built(t, newVersion)
	files := must(filepath.Glob(filepath.Join(first, "twill*")))(t)
	if len(files) != 4 {
		t.Fatalf("packages %q, want a DEB and an RPM for two architectures", files)
	}
	for _, path := range files {
		a := must(os.ReadFile(path))(t)
		b := must(os.ReadFile(filepath.Join(again, filepath.Base(path))))(t)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs between two builds", filepath.Base(path))
		}
	}
}

func TestLintian(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", debPath(t, newVersion, arch)).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("lintian: %v\n%s", err, out)
		}
	}
}

// rpmlint unpacks a package with a cpio that takes absolute names for what they say: it runs in a root of its own.
func TestRpmlint(t *testing.T) {
	r := newRoot(t)
	config := r.put("rpmlint.toml")
	for _, arch := range []string{"x86_64", "aarch64"} {
		out, err := r.try("rpmlint -c " + config + " " + r.put(rpmPath(t, newVersion, arch)))
		if err != nil || !strings.Contains(out, "0 errors, 0 warnings") {
			t.Errorf("rpmlint: %v\n%s", err, out)
		}
	}
}

// run returns what a program prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// must turns a call's error into the end of the test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
