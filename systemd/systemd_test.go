package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// maxExposure is what systemd-analyze security may give the unit, from 0, locked up, to 10.
const maxExposure = 2.0

func TestUnitIsHardened(t *testing.T) {
	out := run(t, "systemd-analyze", "security", "--offline=yes", "--no-pager", "twill.service")
	match := regexp.MustCompile(`Overall exposure level for twill.service: ([0-9.]+)`).FindStringSubmatch(out)
	if match == nil {
		t.Fatalf("no exposure level in\n%s", out)
	}
	if level, err := strconv.ParseFloat(match[1], 64); err != nil || level > maxExposure {
		t.Errorf("exposure level %s, want at most %.1f:\n%s", match[1], maxExposure, out)
	}
}

// systemd reads the unit without a warning. What it says about programs and manual pages that are not installed on this
// machine is no fault of the unit.
func TestUnitIsValid(t *testing.T) {
	out, _ := exec.Command("systemd-analyze", "verify", "--man=no", "twill.service").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "twill.service") && !strings.Contains(line, "is not executable") {
			t.Error(strings.TrimSpace(line))
		}
	}
}

func TestSysusersAndTmpfilesAreValid(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"passwd", "group", "shadow", "gshadow"} {
		write(t, filepath.Join(root, "etc", file), "")
	}
	run(t, "systemd-sysusers", "--root="+root, abs(t, "twill.sysusers"))
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !regexp.MustCompile(`(?m)^twill:.*:/var/lib/twill:/usr/sbin/nologin$`).Match(passwd) {
		t.Errorf("passwd is %q, %v; want the user twill", passwd, err)
	}
	write(t, filepath.Join(root, "run/.keep"), "")
	run(t, "systemd-tmpfiles", "--create", "--root="+root, abs(t, "twill.tmpfiles"))
	if info, err := os.Stat(filepath.Join(root, "run/xtables.lock")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("xtables.lock: %v, %v; want mode 0640", info, err)
	}
}

// The ExecStart= of the Dockers that are in use.
const (
	dockerCE = "[Service]\nType=notify\nExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock\nExecReload=/bin/kill -s HUP $MAINPID\n"
	debian   = "[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS\n"
	redHat   = "[Service]\nExecStart=/usr/bin/dockerd \\\n          --host=fd:// \\\n          $OPTIONS \\\n          $DOCKER_STORAGE_OPTIONS \\\n          $DOCKER_NETWORK_OPTIONS\nExecReload=/bin/kill -s HUP $MAINPID\n"
)

func TestGenerator(t *testing.T) {
	const (
		unit     = "usr/lib/systemd/system/docker.service"
		override = "etc/systemd/system/docker.service.d/override.conf"
	)
	for _, tt := range []struct {
		name  string
		units map[string]string
		want  []string // lines with ExecStart=; nil: nothing is generated
	}{
		{"docker-ce", map[string]string{unit: dockerCE},
			[]string{"ExecStart=", "ExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_NETWORK_OPTIONS"}},
		{"Debian", map[string]string{unit: debian},
			[]string{"ExecStart=", "ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS $DOCKER_NETWORK_OPTIONS"}},
		{"Red Hat", map[string]string{unit: redHat}, []string{}},
		{"the operator's drop-in", map[string]string{unit: dockerCE, override: "[Service]\nExecStart=\nExecStart=/opt/dockerd --debug"},
			[]string{"ExecStart=", "ExecStart=/opt/dockerd --debug $DOCKER_NETWORK_OPTIONS"}},
		{"a drop-in without a command", map[string]string{unit: debian, override: "[Service]\nRestartSec=3\n"},
			[]string{"ExecStart=", "ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS $DOCKER_NETWORK_OPTIONS"}},
		{"the operator's unit", map[string]string{unit: dockerCE, "etc/systemd/system/docker.service": "[Service]\nExecStart=/opt/dockerd\n"},
			[]string{"ExecStart=", "ExecStart=/opt/dockerd $DOCKER_NETWORK_OPTIONS"}},
		{"a drop-in that another hides", map[string]string{
			unit: dockerCE,
			"usr/lib/systemd/system/docker.service.d/override.conf": "[Service]\nExecStart=\nExecStart=/hidden\n",
			override: "[Service]\nRestartSec=3\n",
		}, []string{"ExecStart=", "ExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_NETWORK_OPTIONS"}},
		{"no Docker", nil, nil},
		{"an empty unit", map[string]string{unit: "[Unit]\n"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range tt.units {
				write(t, filepath.Join(root, path), text)
			}
			if got := generate(t, root); got != "" {
				t.Errorf("generated though twill is not enabled:\n%s", got)
			}
			enable(t, root)
			got := generate(t, root)
			if tt.want == nil {
				if got != "" {
					t.Errorf("generated\n%s", got)
				}
				return
			}
			var commands []string
			for line := range strings.Lines(got) {
				if strings.HasPrefix(line, "ExecStart=") {
					commands = append(commands, strings.TrimSpace(line))
				}
			}
			if strings.Join(commands, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got %q, want %q", commands, tt.want)
			}
			for _, want := range []string{"[Service]\n", "\nEnvironmentFile=-/run/twill/docker\n", "\nExecStartPre=/usr/bin/twill docker-opts --wait "} {
				if !strings.Contains(got, want) {
					t.Errorf("lacks %q:\n%s", want, got)
				}
			}
		})
	}
}

// enable does what `systemctl enable twill` does.
func enable(t *testing.T, root string) {
	t.Helper()
	wants := filepath.Join(root, "etc/systemd/system/docker.service.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr/lib/systemd/system/twill.service", filepath.Join(wants, "twill.service")); err != nil {
		t.Fatal(err)
	}
}

// generate runs the generator over the units below root and returns the drop-in, "" if there is none.
func generate(t *testing.T, root string) string {
	t.Helper()
	out := t.TempDir()
	run(t, "sh", "./docker-generator", out, out, out, root)
	text, err := os.ReadFile(filepath.Join(out, "docker.service.d/zz-twill.conf"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
