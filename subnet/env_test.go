package subnet

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// As Flannel writes it.
const envFile = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n"

var envWant = Env{
	Network: netip.MustParsePrefix("10.5.0.0/16"),
	Subnet:  netip.MustParsePrefix("10.5.72.1/24"),
	MTU:     1472,
}

func TestEnvBytes(t *testing.T) {
	if got := string(envWant.Bytes()); got != envFile {
		t.Errorf("got\n%swant\n%s", got, envFile)
	}
	masq := envWant
	masq.IPMasq = true
	if got, want := string(masq.Bytes()), strings.Replace(envFile, "false", "true", 1); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestSubnetEnv(t *testing.T) {
	for subnet, want := range map[string]string{
		"10.5.72.0/24": "10.5.72.1/24",
		"10.5.72.9/24": "10.5.72.1/24",
		"10.5.0.4/30":  "10.5.0.5/30",
	} {
		if got := SubnetEnv(netip.MustParsePrefix(subnet)).String(); got != want {
			t.Errorf("%s: got %s, want %s", subnet, got, want)
		}
	}
}

func TestParseEnv(t *testing.T) {
	for name, raw := range map[string]string{
		"as written":      envFile,
		"no last newline": strings.TrimSuffix(envFile, "\n"),
		"dual-stack":      "FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n" + envFile,
		"comments":        "# made by hand\n\n" + envFile,
		"another order":   "FLANNEL_IPMASQ=false\nFLANNEL_MTU=1472\nFLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_NETWORK=10.5.0.0/16\n",
	} {
		if got, err := ParseEnv([]byte(raw)); err != nil || got != envWant {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestParseEnvErrors(t *testing.T) {
	for _, tt := range []struct {
		from, to string // replaced in envFile
		want     []string
	}{
		{envFile, "", []string{"FLANNEL_NETWORK is missing"}},
		{"FLANNEL_SUBNET=10.5.72.1/24\n", "", []string{"FLANNEL_SUBNET is missing"}},
		{"FLANNEL_MTU=1472\n", "", []string{"FLANNEL_MTU is missing"}},
		{"FLANNEL_IPMASQ=false\n", "FLANNEL_IPMASQ", []string{"line 4", "KEY=VALUE"}},
		{"=1472", " 1472", []string{"line 3", "KEY=VALUE"}},
		{"FLANNEL_MTU=1472\n", "FLANNEL_MTU=1472\nFLANNEL_MTU=1400\n", []string{"line 4", "FLANNEL_MTU", "twice"}},
		{"1472", "67", []string{"line 3", `FLANNEL_MTU "67"`, "68 to 65535"}},
		{"1472", "65536", []string{"line 3", "68 to 65535"}},
		{"1472", `"1472"`, []string{"line 3", "68 to 65535"}},
		{"1472", "", []string{"line 3", `FLANNEL_MTU ""`}},
		{"false", "no", []string{"line 4", `FLANNEL_IPMASQ "no"`, "true or false"}},
		{"false\n", "false\r\n", []string{"line 4", `"false\r"`}},
		{"10.5.0.0/16", "10.5.0.1/16", []string{"line 1", "FLANNEL_NETWORK", "10.5.0.0/16"}},
		{"10.5.0.0/16", "fd00::/16", []string{"line 1", "FLANNEL_NETWORK", "IPv4"}},
		{"10.5.0.0/16", "10.6.0.0/16", []string{"FLANNEL_SUBNET 10.5.72.1/24", "10.6.0.0/16"}},
		{"10.5.72.1/24", "10.5.72.0/24", []string{"line 2", "first address"}},
		{"10.5.72.1/24", "10.5.72.2/24", []string{"line 2", "first address"}},
		{"10.5.72.1/24", "10.5.72.1", []string{"line 2", "first address"}},
		{"10.5.72.1/24", "10.5.72.1/31", []string{"line 2", "first address"}},
		{"10.5.72.1/24", "10.5.0.1/16", []string{"FLANNEL_SUBNET 10.5.0.1/16", "a subnet of"}},
	} {
		raw := strings.Replace(envFile, tt.from, tt.to, 1)
		e, err := ParseEnv([]byte(raw))
		if err == nil {
			t.Errorf("%q accepted as %+v", raw, e)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: error %q does not say %q", raw, err, want)
			}
		}
		if e != (Env{}) {
			t.Errorf("%q: error with an env: %+v", raw, e)
		}
	}
}

func TestWriteEnv(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "twill")
	path := filepath.Join(dir, "subnet.env")
	if _, err := ReadEnv(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: error %v, want fs.ErrNotExist", err)
	}
	write := func() {
		t.Helper()
		if err := WriteEnv(path, envWant); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil || string(raw) != envFile {
			t.Fatalf("file has %q, %v", raw, err)
		}
		if info, _ := os.Stat(path); info.Mode() != 0o644 {
			t.Errorf("mode %v, want 0644", info.Mode())
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("left beside the file: %v", entries)
		}
	}
	write()
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o755 {
		t.Errorf("directory mode %v, want 0755", info.Mode())
	}
	if e, err := ReadEnv(path); err != nil || e != envWant {
		t.Errorf("read back %+v, %v", e, err)
	}

	// The container runtime reads the file as another user, whatever umask the daemon runs with.
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	write()

	// A reader that has the old file open keeps the old text.
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	write()
	text := make([]byte, 100)
	if n, _ := reader.Read(text); string(text[:n]) != "old" {
		t.Errorf("an open reader sees %q", text[:n])
	}
}

func TestWriteEnvErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(file, "subnet.env"): "not a directory",
		dir:                               "not a regular file",
		pipe:                              "not a regular file",
	} {
		err := WriteEnv(path, envWant)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), filepath.Base(dir)) {
			t.Errorf("%s: error %v, want one with the path and %q", path, err, want)
		}
	}
	if err := os.WriteFile(file, []byte("FLANNEL_MTU=big\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadEnv(file); err == nil || !strings.Contains(err.Error(), file+": line 1") {
		t.Errorf("error %v, want one with path and line", err)
	}
}

func FuzzParseEnv(f *testing.F) {
	f.Add([]byte(envFile))
	f.Add([]byte("# x\n\nFLANNEL_IPV6_SUBNET=fd00::1/64\n" + envFile))
	f.Add([]byte("FLANNEL_SUBNET='10.5.72.1/24'\nFLANNEL_MTU\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := ParseEnv(raw)
		if err != nil {
			return
		}
		if back, err := ParseEnv(e.Bytes()); err != nil || back != e {
			t.Fatalf("%q: %q reads back as %+v, %v", raw, e.Bytes(), back, err)
		}
		if SubnetEnv(e.Subnet) != e.Subnet || !e.Network.Contains(e.Subnet.Addr()) {
			t.Fatalf("%q gives %+v", raw, e)
		}
	})
}
