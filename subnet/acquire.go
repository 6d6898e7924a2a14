package subnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Acquire takes a lease for this host, or takes its own over. It follows
// Configure, and leaves the Manager ready for View and Run. Another host that
// is faster only means another try; an etcd that is away is waited for. ErrTwin:
// a daemon that runs elsewhere has our identity.
func (m *Manager) Acquire(ctx context.Context) (Lease, error) {
	s := *m.first
	away := m.registry.outage("take a lease")
	for {
		c, err := choose(m.config, s.Leases, m.opt.Identity, m.opt.Previous)
		if err != nil {
			return Lease{}, err
		}
		l, won, err := m.claim(ctx, c)
		if won {
			away.over()
			m.revokeLost(ctx, l)
			m.removeUnfit(ctx, s.Leases)
			m.begin(l, s)
			return l, nil
		}
		if errors.Is(err, ErrTwin) {
			return Lease{}, err
		}
		if err != nil {
			if err := away.endure(ctx, err); err != nil {
				return Lease{}, fmt.Errorf("acquire %s: %w", c.key, err)
			}
		}
		if s, err = m.registry.Snapshot(ctx); err != nil {
			return Lease{}, err
		}
	}
}

// claim is take, but asks first where our lease says that it is held elsewhere.
func (m *Manager) claim(ctx context.Context, c choice) (Lease, bool, error) {
	if c.held != nil && m.elsewhere(*c.held) {
		l, won, err := m.keptByTwin(ctx, *c.held)
		if err != nil || !won {
			return Lease{}, false, err
		}
		c.held = &l
	}
	return m.take(ctx, c)
}

// take turns a choice into a lease. won is false where etcd changed meanwhile.
// After a transient error the outcome is unknown: the next snapshot tells.
func (m *Manager) take(ctx context.Context, c choice) (l Lease, won bool, err error) {
	asked := now()
	if c.held == nil {
		l, won, err = m.registry.create(ctx, c.key, m.opt.Identity.value(), m.opt.TTL)
		if l.ID != 0 {
			m.granted = append(m.granted, l.ID)
		}
		if won {
			m.renewed(asked, m.opt.TTL)
		}
		return l, won, err
	}
	if !c.held.Reserved() {
		ttl, err := m.registry.renew(ctx, c.held.ID)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return m.relet(ctx, *c.held)
		}
		if err != nil {
			return Lease{}, false, err
		}
		m.renewed(asked, ttl)
	}
	return m.rewrite(ctx, *c.held)
}

// revokeLost drops the etcd leases of tries whose answer was lost, but for the
// one that l hangs on. What etcd does not answer at once is left for the next time.
func (m *Manager) revokeLost(ctx context.Context, l Lease) {
	answers := true
	m.granted = slices.DeleteFunc(m.granted, func(id clientv3.LeaseID) bool {
		if id == l.ID || !answers {
			return false
		}
		answers = m.registry.revokeUnused(ctx, id) == nil
		return answers
	})
}

// rewrite makes the value of our lease say what is true now, which also answers a
// host that asks for it.
func (m *Manager) rewrite(ctx context.Context, l Lease) (Lease, bool, error) {
	want := m.wanted(l)
	if l.Value == want {
		return l, true, nil
	}
	l, won, err := m.registry.update(ctx, l, want)
	if err != nil {
		m.noteLost(want)
	} else if won {
		m.wrote = nil
	}
	return l, won, err
}

// noteLost notes a value whose write may yet be found in etcd. The same one is
// written again and again while etcd has no space.
func (m *Manager) noteLost(v Value) {
	if !slices.Contains(m.wrote, v) {
		m.wrote = append(m.wrote, v)
	}
}

// wanted is our value for l. A reservation made by address keeps that form, so
// that the host finds it again after a reinstallation, under a new NodeID.
func (m *Manager) wanted(l Lease) Value {
	v := m.opt.Identity.value()
	if l.Err != nil {
		l.NodeID = m.own.NodeID
	}
	if l.Reserved() {
		v.NodeID = l.NodeID
	}
	return v
}

// removeUnfit deletes leases of ours that the network config no longer allows.
// Reservations are the operator's and stay.
func (m *Manager) removeUnfit(ctx context.Context, leases []Lease) {
	for _, l := range leases {
		if l.Err != nil || l.Reserved() || !m.opt.Identity.Owns(l.Value) || m.config.Check(l.Subnet) == nil {
			continue
		}
		if won, err := m.registry.remove(ctx, l); err == nil && won {
			m.log.Info("removed our former lease, which the network config no longer allows", "lease", l.Name)
		}
	}
}

// begin makes l our own on top of the snapshot that it was chosen from. The
// event of our own write follows in the watch and changes nothing.
func (m *Manager) begin(l Lease, s Snapshot) {
	now := time.Now()
	m.own = l
	if l.Reserved() {
		m.due.renew = time.Time{}
	}
	m.etcd = EtcdState{Serves: true, Since: now}
	m.table.load(s, now)
	m.cluster = s.ClusterID
	m.first = nil // 2 MB with 10,000 leases
	m.noteConfig(s.Config)
	m.planComparison()
	m.due.check = now.Add(jitter(m.opt.CheckEvery))
}

// Restore is Configure and Acquire for a start while etcd is away: our lease and
// the table are those of an earlier run (Cache.Load). Run reconciles them with
// etcd as soon as it answers. cause says why it did not.
func (m *Manager) Restore(c Cached, cause error) (Config, Lease) {
	at := time.Now()
	m.config, m.rawConf, m.own, m.cluster = c.Config, c.Config.JSON(), c.Own, c.ClusterID
	m.portOfConfig = m.portOfConfig || m.opt.Identity.Port == 0
	m.opt.Identity.Port = c.Own.Port
	if c.Own.Port == 0 { // a reservation that we could not yet write to
		m.opt.Identity.Port = c.Config.Port
	}
	m.confirmed, m.ttl = c.confirmed, c.TTL
	m.vitals.leasedFrom(c.confirmed, c.TTL)
	m.provisional, m.cached = true, c.Saved
	m.table.load(Snapshot{Revision: c.Revision, Leases: append(slices.Clone(c.Peers), c.Own)}, at)
	m.etcd = EtcdState{Since: at, Err: explain(cause), Refuses: refuses(cause)}
	m.due.check = at
	if m.due.renew = at; c.Own.Reserved() {
		m.due.renew = time.Time{}
	}
	return m.config, m.own
}
