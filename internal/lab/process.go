package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// stopTimeout is how long Lab.Close lets a daemon end by itself; it
	// promises to end in under a second.
	stopTimeout = 3 * time.Second

	// pipeTimeout is how long a process's output is awaited after its end, if a
	// child of it keeps the pipe open.
	pipeTimeout = 2 * time.Second

	// tailLines is how much of a process's output goes into an error.
	tailLines = 15
)

// Process is a daemon that runs on a host.
type Process struct {
	Host *Host
	Args []string

	name   string
	cmd    *exec.Cmd
	out    *output
	notify *notifySocket
	done   chan struct{} // closed when it has ended and its output is complete
}

// StartDaemon starts `twill run` with the lab's etcd, this host's directories
// and name, and the arguments given. It leaves iptables alone unless they say
// otherwise.
func (h *Host) StartDaemon(args ...string) (*Process, error) {
	return h.Start(h.daemonArgs(args)...)
}

func (h *Host) daemonArgs(args []string) []string {
	return append([]string{
		"run",
		"--etcd-endpoints", h.lab.EtcdEndpoint(),
		"--run-dir", h.RunDir(),
		"--state-dir", h.StateDir(),
		"--node-name", h.Name,
		"--iptables-forward-rules=false",
	}, args...)
}

// Start starts the program under test on the host with the given arguments.
func (h *Host) Start(args ...string) (*Process, error) {
	return h.launch(h.command(context.Background(), args), "twill", args, nil)
}

// launch starts cmd, which is called name, as a process that ends with the lab. The store keeps the descriptors that it hands
// over; nil keeps none.
func (h *Host) launch(cmd *exec.Cmd, name string, args []string, store *fdStore) (*Process, error) {
	notify, err := listenNotify(h.Dir(), store)
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, h.Name, err)
	}
	p := &Process{
		Host:   h,
		Args:   args,
		name:   name,
		cmd:    cmd,
		out:    newOutput(h.Name, h.lab.opts.Output),
		notify: notify,
		done:   make(chan struct{}),
	}
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify.path)
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := h.Do(cmd.Start); err != nil {
		notify.close()
		return nil, fmt.Errorf("start %s on %s: %w", name, h.Name, err)
	}
	go p.reap()
	h.procs = append(h.procs, p)
	return p, nil
}

// Twill runs the program under test on the host to its end and returns what it
// printed. If it fails, the error holds its messages and wraps [exec.ExitError].
func (h *Host) Twill(ctx context.Context, args ...string) (stdout string, err error) {
	var out, messages strings.Builder
	cmd := h.command(ctx, args)
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err = h.Do(cmd.Start); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return out.String(), fmt.Errorf("twill %s on %s: %w: %s",
			strings.Join(args, " "), h.Name, err, strings.TrimSpace(messages.String()))
	}
	return out.String(), nil
}

// command is the program under test with arguments. It must be started by Do,
// and without Pdeathsig: that would kill it when Do's thread ends.
func (h *Host) command(ctx context.Context, args []string) *exec.Cmd {
	line := append(append([]string{}, h.lab.opts.Command...), args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	if line[0] == "/proc/self/exe" {
		cmd.Args[0] = os.Args[0]
	}
	cmd.Dir = h.Dir()
	cmd.Env = append(environ(), h.lab.opts.Env...)
	cmd.WaitDelay = pipeTimeout
	return cmd
}

// environ is the environment without what would set the program's flags: a lab
// is the same whoever builds it.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "TWILL_") || strings.HasPrefix(e, "FLANNELD_")
	})
}

// reap waits for the end of the process.
func (p *Process) reap() {
	p.cmd.Wait()
	p.notify.close()
	p.out.flush()
	close(p.done)
}

// Ready waits until the daemon says READY=1. If it ends first, or ctx does, the
// error has its last lines.
func (p *Process) Ready(ctx context.Context) error {
	select {
	case <-p.notify.ready:
		return nil
	case <-p.done:
		return fmt.Errorf("%s ended with exit code %d before it was ready; it said:\n%s", p, p.ExitCode(), p.Tail(tailLines))
	case <-ctx.Done():
		return fmt.Errorf("%s is not ready: %w; it said:\n%s", p, context.Cause(ctx), p.Tail(tailLines))
	}
}

// Status is the last STATUS= the daemon sent.
func (p *Process) Status() string { return p.notify.lastStatus() }

// Watchdog is how often the program has sent WATCHDOG=1.
func (p *Process) Watchdog() int64 { return p.notify.watchdog.Load() }

// Stopping is closed when the daemon has sent STOPPING=1.
func (p *Process) Stopping() <-chan struct{} { return p.notify.stopping }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop asks the process to end (SIGTERM) and waits for it. When ctx ends first
// it is killed, and that is an error.
func (p *Process) Stop(ctx context.Context) (exitCode int, err error) {
	if err := p.Signal(unix.SIGTERM); err != nil {
		return 0, err
	}
	return p.Wait(ctx)
}

// Wait waits for the process to end by itself. When ctx ends first it is killed,
// and that is an error.
func (p *Process) Wait(ctx context.Context) (exitCode int, err error) {
	select {
	case <-p.done:
		return p.ExitCode(), nil
	case <-ctx.Done():
		p.Kill()
		return p.ExitCode(), fmt.Errorf("%s did not end: %w; it said:\n%s", p, context.Cause(ctx), p.Tail(tailLines))
	}
}

// Kill kills the process (SIGKILL) and waits until it is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Signal sends a signal. A process that has ended already is no error.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s: %w", s, p, err)
	}
	return nil
}

// ExitCode is the exit code of a process that has ended, 128+signal if a signal
// ended it, and -1 while it runs.
func (p *Process) ExitCode() int {
	select {
	case <-p.done:
	default:
		return -1
	}
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Log is what the process has printed so far, and Tail its last n lines.
func (p *Process) Log() string       { return p.out.String() }
func (p *Process) Tail(n int) string { return p.out.tail(n) }

func (p *Process) String() string {
	if len(p.Args) == 0 {
		return p.Host.Name + ": " + p.name
	}
	return fmt.Sprintf("%s: %s %s", p.Host.Name, p.name, p.Args[0])
}

// stopAll ends the host's processes, by force when they take too long.
func (h *Host) stopAll() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for _, p := range h.procs {
		p.Signal(unix.SIGTERM)
	}
	for _, p := range h.procs {
		p.Wait(ctx)
	}
	h.procs = nil
	for _, s := range h.stores {
		s.discard()
	}
	h.stores = nil
}
