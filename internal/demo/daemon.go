package demo

import (
	"context"
	"fmt"

	"twill/internal/lab"
)

// daemon is a twill that shall run until it is stopped.
type daemon struct {
	*lab.Process
	quit chan struct{} // closed when it may end
}

// startDaemon starts twill on a host. Should it end by itself, the story does
// too, at once and with that reason, instead of waiting for what cannot come.
func (s *story) startDaemon(h *lab.Host) (*daemon, error) {
	p, err := h.StartDaemon("--network", network, "--lease-grace", leaseGrace.String())
	if err != nil {
		return nil, err
	}
	d := &daemon{Process: p, quit: make(chan struct{})}
	go func() {
		select {
		case <-d.Done():
			s.abort(fmt.Errorf("%s ended with exit code %d", d, d.ExitCode()))
		case <-d.quit:
		}
	}()
	return d, nil
}

// stop ends the daemon as systemd would, and wants exit code 0.
func (d *daemon) stop(ctx context.Context) error {
	close(d.quit)
	code, err := d.Stop(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with exit code %d, want 0", d, code)
	}
	return err
}
