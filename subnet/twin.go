package subnet

import (
	"context"
	"fmt"
	"time"
)

// ErrTwin ends Acquire: another daemon, with the same node id or address as this
// host, runs and keeps the lease that is ours by it. It is an ErrFenced.
var ErrTwin = fmt.Errorf("%w that has this host's identity", ErrFenced)

const (
	// twinPatience is how long a start waits for the answer of the daemon that its
	// lease names: a few round trips to etcd, and a start of that daemon.
	twinPatience = 2 * time.Second
	// twinPoll is the first pause between looks for it; each is twice the one before,
	// as a whole fleet may start at new addresses.
	twinPoll = 100 * time.Millisecond
)

// keptByTwin asks, before l is taken over, whether a daemon with our identity
// already runs elsewhere, as on the original of a copied disk: what it does not
// lose now, the two would take from each other for ever. A host that has moved or
// was renamed since its last run finds nobody there.
//
// To ask is to write the value with Asks, which changes nothing for anybody else.
// Whoever keeps the lease writes it without (restore). The lease is returned as it
// is after the question; won is false where somebody changed it meanwhile.
func (m *Manager) keptByTwin(ctx context.Context, l Lease) (asked Lease, won bool, err error) {
	question := l.Value
	question.Asks = true
	asked, won, err = m.registry.update(ctx, l, question)
	if err != nil || !won {
		return Lease{}, false, err
	}
	end := time.Now().Add(twinPatience)
	for wait := twinPoll; time.Now().Before(end); wait *= 2 {
		if err := sleep(ctx, min(wait, time.Until(end))); err != nil {
			return Lease{}, false, err
		}
		now, found, _, err := m.registry.lease(ctx, l.Name)
		switch {
		case err != nil:
			return Lease{}, false, err
		case found && now.Value == question:
			asked = now // another start may have asked, too
		case found && now.Value == question.answered():
			return Lease{}, false, m.twinError(now)
		default:
			return Lease{}, false, nil
		}
	}
	return asked, true, nil
}

func (m *Manager) twinError(l Lease) error {
	if l.NodeID == "" {
		return fmt.Errorf("%w: node %q runs and holds %s with the public IP and port of this host, %s; give one of them another", ErrTwin, l.Node, l.Subnet, endpoint(l, m.config))
	}
	return fmt.Errorf("%w: node %q at %s runs and holds %s with the same node id as this host; on whichever of them is the copy, remove the file %s from the state directory and restart twill",
		ErrTwin, l.Node, endpoint(l, m.config), l.Subnet, nodeIDFile)
}
