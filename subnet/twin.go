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
	twinPoll     = 50 * time.Millisecond

	// These bound the answers. Two daemons whose leases are the same to the letter, as of
	// clones behind one NAT, take each other's answers for questions.
	answersPerSecond = 1
	answersBurst     = 10
)

// keptByTwin asks, before l is taken over, whether a daemon with our identity
// already runs elsewhere, as on the original of a copied disk: what it does not
// lose now, the two would take from each other for ever. A host that has moved or
// was renamed since its last run finds nobody there.
//
// To ask is to write the value again as it is, which changes nothing but the
// key's revision. Whoever keeps the lease sees that and writes it once more
// (answer). The lease is returned as it is after the question; won is false
// where somebody changed it meanwhile.
func (m *Manager) keptByTwin(ctx context.Context, l Lease) (asked Lease, won bool, err error) {
	asked, won, err = m.registry.update(ctx, l, l.Value)
	if err != nil || !won {
		return Lease{}, false, err
	}
	for end := time.Now().Add(twinPatience); time.Now().Before(end); {
		if err := sleep(ctx, twinPoll); err != nil {
			return Lease{}, false, err
		}
		now, found, _, err := m.registry.lease(ctx, l.Name)
		switch {
		case err != nil:
			return Lease{}, false, err
		case found && now.ModRevision == asked.ModRevision:
			continue
		case found && now.Value == asked.Value:
			return Lease{}, false, m.twinError(now)
		}
		return Lease{}, false, nil
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

// asks reports whether l is our lease, written anew by somebody else as it was.
// After a restore the revision is lower: a fleet does not answer that.
func (m *Manager) asks(l Lease) bool {
	return l.Value == m.own.Value && l.ID == m.own.ID && l.ModRevision > m.own.ModRevision
}

// answer tells a host that asks (keptByTwin) that we are here.
func (m *Manager) answer(ctx context.Context, l Lease) error {
	l, won, err := m.registry.update(ctx, l, m.wanted(l))
	if err != nil {
		return fmt.Errorf("write lease %s: %w", m.own.Name, err)
	}
	if !won {
		return fmt.Errorf("%w: lease %s changes while we look", errResync, m.own.Name)
	}
	m.own = l
	m.log.Warn("another host asked for our lease and was told that we hold it; has it this one's node id or address?", "lease", l.Name)
	return nil
}
