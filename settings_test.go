package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"twill/internal/envfile"
)

func TestLoadSettings(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for path, text := range map[string]string{
		first:  "TWILL_TEST_A=file\nTWILL_TEST_B=file\nTWILL_TEST_C=first\n",
		second: "TWILL_TEST_C=second\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TWILL_TEST_A", "environment")
	for _, name := range []string{"TWILL_TEST_B", "TWILL_TEST_C"} {
		t.Setenv(name, "") // restored in the end
		os.Unsetenv(name)
	}
	var said []string
	warn := func(message string) { said = append(said, message) }
	loadSettings([]string{"twill", "run"}, []string{first}, warn)
	if got := os.Getenv("TWILL_TEST_B"); got != "" {
		t.Errorf("twill run reads %q from the settings", got)
	}
	loadSettings([]string{"twill", "leases"}, []string{first, filepath.Join(dir, "absent"), second}, warn)
	for name, want := range map[string]string{"TWILL_TEST_A": "environment", "TWILL_TEST_B": "file", "TWILL_TEST_C": "second"} {
		if got := os.Getenv(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if len(said) != 0 {
		t.Errorf("said %q", said)
	}
	loadSettings([]string{"twill", "leases"}, []string{dir}, warn)
	if !strings.Contains(strings.Join(said, "\n"), dir) {
		t.Errorf("said %q about a file that cannot be read", said)
	}
}

func TestUnknownSettings(t *testing.T) {
	environ := []string{"PATH=/bin", "TWILL_MTU=1400", "TWILL_MTUU=1400", "FLANNELD_V=2", "TWILL_ETCD_ENDPOINTS=x", "TWILL_=="}
	got := unknownSettings(environ, runCommand().Flags)
	if want := []string{"TWILL_MTUU", "TWILL_"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Every setting that the packages' settings file offers is one that `twill run` takes.
func TestShippedSettings(t *testing.T) {
	raw, err := os.ReadFile("packaging/twill.env")
	if err != nil {
		t.Fatal(err)
	}
	offered := strings.ReplaceAll(string(raw), "\n#TWILL_", "\nTWILL_")
	vars, _ := envfile.Parse([]byte(offered))
	if len(vars) < 5 {
		t.Fatalf("found only %v", vars)
	}
	known := map[string]bool{}
	for _, f := range runCommand().Flags {
		for _, name := range f.(cli.DocGenerationFlag).GetEnvVars() {
			known[name] = true
		}
	}
	for _, v := range vars {
		if !known[v.Name] {
			t.Errorf("no flag is read from %s", v.Name)
		}
		if v.Name != "TWILL_ETCD_PASSWORD" { // the file's is empty
			t.Setenv(v.Name, v.Value)
		}
	}
	t.Setenv("TWILL_ETCD_PASSWORD", "x")
	cfg, err := parseRun(t)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Network.String() != "10.5.0.0/16" || !cfg.IPMasq || cfg.Underlay.Ifaces[0] != "eth0" {
		t.Errorf("got %+v", cfg)
	}
}

// Commands that speak of this host's daemon or to its etcd go by the service's settings. The daemon itself has them from
// systemd.
func TestCommandsOfTheServiceReadItsSettings(t *testing.T) {
	var ofService func(c *cli.Command) bool
	ofService = func(c *cli.Command) bool {
		return slices.ContainsFunc(c.Subcommands, ofService) || slices.ContainsFunc(c.Flags, func(f cli.Flag) bool {
			return slices.Contains([]string{"run-dir", "etcd-endpoints"}, f.Names()[0])
		})
	}
	for _, c := range newApp().Commands {
		if c.Name != "run" && ofService(c) && !slices.Contains(needSettings, c.Name) {
			t.Errorf("twill %s does not read them", c.Name)
		}
	}
}
