package overlay

import (
	"context"
	"fmt"

	"twill/internal/lab"
)

// twill is this project's daemon, with the flags given.
type twill struct {
	name, kind string
	path       string
	flags      []string
}

func (t twill) Name() string { return t.name }
func (t twill) Kind() string { return t.kind }

func (t twill) Find() (string, error) { return findProgram(t.path, "", "version") }

func (t twill) Start(ctx context.Context, l *lab.Lab) (*Network, error) {
	if err := l.StartEtcd(ctx); err != nil {
		return nil, err
	}
	n := &Network{}
	for _, h := range l.Hosts {
		d, err := h.StartDaemon(append([]string{"--network", network}, t.flags...)...)
		if err != nil {
			return nil, err
		}
		n.Daemons = append(n.Daemons, d)
	}
	for _, d := range n.Daemons {
		if err := d.Ready(ctx); err != nil {
			return nil, fmt.Errorf("start %s: %w", t.name, err)
		}
	}
	return n, attachPods(l, n)
}
