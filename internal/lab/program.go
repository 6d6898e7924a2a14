package lab

import (
	"fmt"
	"os/exec"
)

// StartProgram starts any other program on the host, in the foreground, as the
// benchmarks need it: line is its path or name and its arguments. It ends with
// the lab as a daemon of our own does. Most programs do not speak sd_notify(3):
// wait for what they make instead of [Process.Ready].
func (h *Host) StartProgram(line ...string) (*Process, error) {
	notify, err := listenNotify(h.Dir())
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", line[0], h.Name, err)
	}
	p := &Process{
		Host:   h,
		Args:   line,
		cmd:    exec.Command(line[0], line[1:]...),
		out:    newOutput(h.Name, h.lab.opts.Output),
		notify: notify,
		done:   make(chan struct{}),
	}
	p.cmd.Dir = h.Dir()
	p.cmd.Env = append(environ(), "NOTIFY_SOCKET="+notify.path)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.WaitDelay = pipeTimeout
	if err := h.Do(p.cmd.Start); err != nil {
		notify.close()
		return nil, fmt.Errorf("start %s on %s: %w", line[0], h.Name, err)
	}
	go p.reap()
	h.procs = append(h.procs, p)
	return p, nil
}
