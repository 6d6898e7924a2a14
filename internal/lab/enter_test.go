package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nestedEnv makes the test binary build a lab of its own and say what it sees.
const nestedEnv = "TWILL_LAB_NESTED"

// nested enters a lab, starts a stand-in on a host of it, prints "ready" and
// waits for SIGTERM; then it exits with code 7.
func nested() int {
	if os.Getenv(standInEnv) != "" {
		return standIn(os.Args[1:])
	}
	entered, code, err := Enter()
	if err != nil || !entered {
		if err != nil {
			fmt.Println(err)
		}
		return code
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	l, err := New(Options{Hosts: 1, Env: []string{standInEnv + "=1"}})
	if err == nil {
		_, err = l.Hosts[0].Start("stubborn")
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Printf("ready pid=%d uid=%d\n", os.Getpid(), os.Getuid())
	<-stop
	return 7
}

// startNested starts a nested lab. hold ends (EOF) when no process of it is left.
func startNested(t *testing.T, uid uint32) (cmd *exec.Cmd, hold *os.File) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "hold")
	if err := unix.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	// Up to the mode given, whatever the umask, and reachable by any user.
	for path, mode := range map[string]os.FileMode{fifo: 0o666, filepath.Dir(fifo): 0o755, filepath.Dir(filepath.Dir(fifo)): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd = exec.Command("/proc/self/exe")
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, insideEnv+"=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, nestedEnv+"=1", "HOLD="+fifo)
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if line != "ready pid=1 uid=0\n" {
		t.Fatalf("the nested lab says %q", line)
	}
	if hold, err = os.Open(fifo); err != nil { // waits for the stand-in
		t.Fatal(err)
	}
	t.Cleanup(func() { hold.Close() })
	return cmd, hold
}

// awaitEnd waits until no process of the nested lab is left.
func awaitEnd(t *testing.T, hold *os.File) {
	t.Helper()
	hold.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(hold); err != nil {
		t.Fatalf("a process of the lab outlives it: %v", err)
	}
}

func TestNothingOutlivesKill(t *testing.T) {
	cmd, hold := startNested(t, 0)
	cmd.Process.Kill()
	awaitEnd(t, hold)
}

func TestSignalAndExitCodePassThrough(t *testing.T) {
	cmd, hold := startNested(t, 0)
	cmd.Process.Signal(unix.SIGTERM)
	awaitEnd(t, hold)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("got %v, want exit code 7", err)
	}
}

// nobody is a user without any privilege.
const nobody = 65534

func TestOrdinaryUser(t *testing.T) {
	if inUserNamespace() { // from which no other user can be reached
		t.Log("the tests run as an ordinary user: all of them show it")
		return
	}
	mountProc(t)
	cmd, hold := startNested(t, nobody)
	cmd.Process.Signal(unix.SIGTERM)
	awaitEnd(t, hold)
}

// mountProc gives the test a /proc of the lab's own process ids, by which the
// nested lab sets its user mapping.
func mountProc(t *testing.T) {
	t.Helper()
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/proc", unix.MNT_DETACH) })
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{unix.EPERM, "run as root"},
		{unix.ENOSPC, "run as root"},
		{unix.EINVAL, "kernel"},
		{unix.ENOENT, "start in new namespaces"},
	} {
		got := explain(tt.err)
		if !errors.Is(got, tt.err) || !strings.Contains(got.Error(), tt.want) {
			t.Errorf("explain(%v) is %q, want it to say %q", tt.err, got, tt.want)
		}
	}
}
