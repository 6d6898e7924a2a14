package lab

import (
	"os/exec"
)

// StartProgram starts any other program on the host, in the foreground, as the
// benchmarks need it: line is its path or name and its arguments. It ends with
// the lab as a daemon of our own does. Most programs do not speak sd_notify(3):
// wait for what they make instead of [Process.Ready].
func (h *Host) StartProgram(line ...string) (*Process, error) {
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = h.Dir()
	cmd.Env = environ()
	cmd.WaitDelay = pipeTimeout
	return h.launch(cmd, line[0], line[1:], nil)
}
