package demo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// buildTwill builds the real program, once.
var buildTwill = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("/run", "twill") // private to the tests, gone with them
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // for the ordinary user
		return "", err
	}
	path := filepath.Join(dir, "twill")
	if out, err := exec.Command("go", "build", "-o", path, "twill").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build twill: %w\n%s", err, out)
	}
	return path, os.Chmod(path, 0o755)
})

// demoCommand is `twill demo` with arguments, as if started outside of any lab.
func demoCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	twill, err := buildTwill()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), twill, append([]string{"demo"}, args...)...)
	cmd.Dir = "/"
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "TWILL_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	return cmd
}

// goodStory checks a demo with two hosts from its first to its last line.
func goodStory(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := string(out)
	for _, want := range []string{
		"twill demo: 2 hosts", "└─ host2 198.18.0.2", "2 pings, all answered", "# twill leases", "# twill peers",
		"64 MiB each way", "FLANNEL_MTU=1472", `DOCKER_OPT_MTU="--mtu=1472"`, "lost 0", "took host2 out", "It works: 4 pings",
	} {
		at := strings.Index(text, want)
		if at < 0 {
			t.Fatalf("%q is missing, or not in its place, in\n%s", want, out)
		}
		text = text[at:]
	}
	if strings.ContainsAny(string(out), "\x1b\r") {
		t.Errorf("escape sequences although the output is no terminal:\n%q", out)
	}
}

func TestDemo(t *testing.T) {
	goodStory(t, demoCommand(t, "--hosts", "2"))
}

// nobody is a user without any privilege.
const nobody = 65534

func TestOrdinaryUser(t *testing.T) {
	if !manyUsers(t) {
		t.Log("the tests run as an ordinary user: TestDemo shows it")
		return
	}
	mountProc(t)
	cmd := demoCommand(t, "--hosts", "2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}

	mountTUN(t, 0o666)
	goodStory(t, cmd)
}

func TestTUNIsForbidden(t *testing.T) {
	if !manyUsers(t) {
		t.Log("only root can make a TUN node that is forbidden")
		return
	}
	mountProc(t)
	mountTUN(t, 0o600)
	cmd := demoCommand(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if exitCode(err) != 1 || !strings.Contains(string(out), "chmod 0666 /dev/net/tun") {
		t.Errorf("got %v, want exit code 1 and what to do, in\n%s", err, out)
	}
}

// manyUsers tells whether there are others to run as.
func manyUsers(t *testing.T) bool {
	t.Helper()
	m, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(m))
	return len(fields) == 3 && fields[2] != "1"
}

// mountProc gives the test a /proc of the process ids that it sees; a user
// namespace is set up through it.
func mountProc(t *testing.T) {
	t.Helper()
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/proc", unix.MNT_DETACH) })
}

// mountTUN puts a TUN device node with the given mode over /dev/net/tun.
func mountTUN(t *testing.T, mode os.FileMode) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	node := filepath.Join(dir, "tun")
	// The numbers are in Linux's devices.txt.
	if err := unix.Mknod(node, unix.S_IFCHR|uint32(mode), int(unix.Mkdev(10, 200))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(node, mode); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(node, "/dev/net/tun", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/dev/net/tun", unix.MNT_DETACH) })
}

// startUntil starts a demo and returns when it has printed a line with text.
func startUntil(t *testing.T, cmd *exec.Cmd, text string) (rest io.Reader, stderr *bytes.Buffer) {
	t.Helper()
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			cmd.Wait() // completes stderr
			t.Fatalf("the output ends before %q: %v\n%s", text, err, stderr)
		}
		if strings.Contains(line, text) {
			return lines, stderr
		}
	}
}

func TestInterrupt(t *testing.T) {
	cmd := demoCommand(t)
	rest, _ := startUntil(t, cmd, "all answered")
	begin := time.Now()
	cmd.Process.Signal(unix.SIGINT)
	io.Copy(io.Discard, rest)
	if err := cmd.Wait(); exitCode(err) != 130 {
		t.Errorf("got %v, want exit code 130", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("the demo took %v to end", took)
	}
}

func TestKeepEndsByInterrupt(t *testing.T) {
	cmd := demoCommand(t, "--hosts", "2", "--keep")
	rest, _ := startUntil(t, cmd, "took host2 in again")
	lines := bufio.NewScanner(rest)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "host2-pod1" && fields[1] == "nsenter" {
			// A pod has lo and eth0 and nothing else.
			out, err := exec.Command(fields[1], append(fields[2:], "cat", "/proc/thread-self/net/dev")...).Output()
			if links := strings.Count(string(out), ":"); err != nil || links != 2 || !strings.Contains(string(out), "eth0:") {
				t.Errorf("%s: %v, sees\n%s", lines.Text(), err, out)
			}
			cmd.Process.Signal(unix.SIGINT)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("got %v, want exit code 0", err)
	}
}

func TestFailureNamesDaemon(t *testing.T) {
	cmd := demoCommand(t)
	rest, stderr := startUntil(t, cmd, "twill runs on each host")
	killDaemon(t, cmd.Path, "host2")
	io.Copy(io.Discard, rest)
	err := cmd.Wait()
	if exitCode(err) != 1 || !strings.Contains(stderr.String(), "host2: twill run ended with exit code 137") {
		t.Errorf("got %v, want exit code 1 and the daemon that died, in\n%s", err, stderr)
	}
}

// killDaemon kills the daemon with a node name that runs from path, going by
// /proc, since it is a grandchild.
func killDaemon(t *testing.T, path, node string) {
	t.Helper()
	mountProc(t)
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, _ := os.ReadFile(file)
		if !bytes.HasPrefix(line, []byte(path+"\x00run\x00")) || !bytes.Contains(line, []byte("\x00"+node+"\x00")) {
			continue
		}
		var pid int
		fmt.Sscanf(file, "/proc/%d/cmdline", &pid)
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no daemon of %s runs", node)
}

// exitCode is that of a command's error, or -1.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}
