package dockeropts

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const (
	goodEnv = "FLANNEL_SUBNET=10.1.74.1/24\n"
	goodOut = `DOCKER_OPT_BIP="--bip=10.1.74.1/24"` + "\n" + `DOCKER_OPTS="--debug  --bip=10.1.74.1/24"` + "\n"
	oldOut  = "what was there\n"
)

func noEnviron(string) string { return "" }

func write0644(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s has %q, want %q", path, got, want)
	}
}

func options(t *testing.T, env string) Options {
	t.Helper()
	dir := t.TempDir()
	o := Options{EnvFile: filepath.Join(dir, "subnet.env"), Output: filepath.Join(dir, "docker"), Key: DefaultKey}
	write0644(t, o.EnvFile, env)
	return o
}

func TestRun(t *testing.T) {
	getenv := func(key string) string { return map[string]string{DefaultKey: "--debug"}[key] }
	t.Run("new file", func(t *testing.T) {
		o := options(t, goodEnv)
		if err := Run(o, getenv); err != nil {
			t.Fatal(err)
		}
		wantFile(t, o.Output, goodOut)
		if info, _ := os.Stat(o.Output); info.Mode() != 0o644 {
			t.Errorf("mode %v, want 0644", info.Mode())
		}
	})
	t.Run("old file", func(t *testing.T) {
		o := options(t, goodEnv)
		write0644(t, o.Output, strings.Repeat(oldOut, 100))
		if err := Run(o, getenv); err != nil {
			t.Fatal(err)
		}
		wantFile(t, o.Output, goodOut)
	})
	t.Run("link", func(t *testing.T) {
		o := options(t, goodEnv)
		target := o.Output + ".target"
		write0644(t, target, oldOut)
		if err := os.Symlink(target, o.Output); err != nil {
			t.Fatal(err)
		}
		if err := Run(o, getenv); err != nil {
			t.Fatal(err)
		}
		wantFile(t, target, goodOut)
		if info, _ := os.Lstat(o.Output); info.Mode().Type() != fs.ModeSymlink {
			t.Errorf("the link became %v", info.Mode())
		}
	})
	t.Run("pipe", func(t *testing.T) {
		o := options(t, goodEnv)
		if err := syscall.Mkfifo(o.Output, 0o600); err != nil {
			t.Fatal(err)
		}
		// Opened for both, so that neither end waits for the other.
		pipe, err := os.OpenFile(o.Output, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer pipe.Close()
		if err := Run(o, getenv); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(goodOut))
		if _, err := io.ReadFull(pipe, got); err != nil || string(got) != goodOut {
			t.Errorf("read %q, %v; want %q", got, err, goodOut)
		}
		if info, _ := os.Lstat(o.Output); info.Mode().Type() != fs.ModeNamedPipe {
			t.Errorf("the pipe became %v", info.Mode())
		}
	})
}

// Whatever is wrong with the input, the output file is as it was and nothing lies beside it.
func TestRunErrors(t *testing.T) {
	for _, tt := range []struct {
		name  string
		env   string
		spoil func(t *testing.T, o *Options)
		want  string
	}{
		{"env file missing", goodEnv, func(t *testing.T, o *Options) { os.Remove(o.EnvFile) }, "subnet.env"},
		{"no subnet", "FLANNEL_MTU=1472\n", nil, "FLANNEL_SUBNET"},
		{"bad IPMASQ", goodEnv + "FLANNEL_IPMASQ=maybe\n", nil, "FLANNEL_IPMASQ"},
		{"output directory missing", goodEnv, func(t *testing.T, o *Options) {
			o.Output = filepath.Join(filepath.Dir(o.Output), "missing", "docker")
		}, "missing"},
		{"output is a directory", goodEnv, func(t *testing.T, o *Options) { o.Output = filepath.Dir(o.Output) }, "is a directory"},
		{"output below a file", goodEnv, func(t *testing.T, o *Options) { o.Output = filepath.Join(o.Output, "docker") }, "not a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, tt.env)
			old := o.Output
			write0644(t, old, oldOut)
			if tt.spoil != nil {
				tt.spoil(t, &o)
			}
			before := names(t, filepath.Dir(old))
			err := Run(o, noEnviron)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that says %q", err, tt.want)
			}
			wantFile(t, old, oldOut)
			if after := names(t, filepath.Dir(old)); after != before {
				t.Errorf("directory had %s, now has %s", before, after)
			}
		})
	}
	o := options(t, goodEnv)
	os.Remove(o.EnvFile)
	if err := Run(o, noEnviron); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v does not wrap fs.ErrNotExist", err)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, e := range entries {
		s = append(s, e.Name())
	}
	return strings.Join(s, " ")
}
