package subnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// ErrFenced ends Run: our subnet is proven to be another owner's. Whoever
// forwards must stop before anything else.
var ErrFenced = errors.New("subnet lost to another owner")

// keep renews our etcd lease. Only etcd's own word that there is no such lease
// makes it lost; then the same subnet is taken again.
func (m *Manager) keep(ctx context.Context) error {
	asked, began := now(), time.Now()
	ttl, err := m.registry.renew(ctx, m.own.ID)
	switch {
	case err == nil:
		m.vitals.answered(began)
		m.renewed(asked, ttl)
		m.save(m.View())
		if !m.etcd.Serves {
			m.due.check = time.Now() // which also learns what was missed
		}
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	m.due.renew = time.Now().Add(m.retryAfter())
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return m.lostLease(ctx)
	}
	m.unreachable(err)
	return nil
}

// lostLease looks what has become of the key, now that our etcd lease is gone. An
// etcd that has kept it all the same would keep it for ever.
func (m *Manager) lostLease(ctx context.Context) error {
	lost := m.own.ID
	if err := m.check(ctx); err != nil || m.own.ID != lost || !m.etcd.Serves {
		return err
	}
	l, won, err := m.relet(ctx, m.own)
	switch {
	case err != nil:
		m.unreachable(err)
	case won:
		m.own = l
		m.publish()
	}
	return nil
}

// relet puts l, which is ours, on an etcd lease that exists. won is false where it
// has expired or changed since it was read.
func (m *Manager) relet(ctx context.Context, l Lease) (Lease, bool, error) {
	asked, value := now(), m.wanted(l)
	l, won, err := m.registry.relet(ctx, l, value, m.opt.TTL)
	if l.ID != 0 {
		m.granted = append(m.granted, l.ID)
	}
	if err != nil {
		m.noteLost(value)
	}
	if won {
		m.renewed(asked, m.opt.TTL)
		m.log.Warn("etcd had our key, but not the lease that it was on; put it on a new one", "lease", l.Name)
	}
	return l, won, err
}

// retryEvery is the longest pause between tries to renew or check while etcd is
// away.
const retryEvery = 5 * time.Second

func (m *Manager) retryAfter() time.Duration { return jitter(min(retryEvery, m.opt.CheckEvery)) }

// renewed notes that etcd keeps our lease for ttl from asked on, and plans the
// next renewal: after a third of the TTL, so that two can fail, and at the latest
// RenewMargin before expiry.
func (m *Manager) renewed(asked instant, ttl time.Duration) {
	m.confirmed, m.ttl = asked, ttl
	m.vitals.leasedFrom(asked, ttl)
	wait := ttl / 3
	if early := ttl - m.opt.RenewMargin; early > 0 {
		wait = min(wait, early)
	}
	m.due.renew = time.Now().Add(jitter(wait))
}

// jitter spreads a fleet's requests: d less up to a tenth.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// check asks etcd, by a linearized read, whether our lease is still ours, and
// puts right what is not. Only what Run has to act on is an error.
func (m *Manager) check(ctx context.Context) error {
	m.asked = nil // that answer would be older
	return m.checked(ctx, m.readOwn(ctx, m.question()))
}

// question is what an answer on our own lease has to be compared with.
type question struct {
	own      Lease
	revision int64 // of the table
}

// ownWord is etcd's word on our own lease.
type ownWord struct {
	question
	lease Lease
	found bool
	at    answer
	err   error
}

func (m *Manager) question() question { return question{own: m.own, revision: m.table.revision} }

func (m *Manager) readOwn(ctx context.Context, q question) ownWord {
	w := ownWord{question: q}
	began := time.Now()
	if w.lease, w.found, w.at, w.err = m.registry.lease(ctx, q.own.Name); w.err == nil {
		m.vitals.answered(began)
	}
	return w
}

// ask is check while events are folded on: asked brings the word for checked. An
// etcd that takes seconds for a read must not hold up the table for as long.
func (m *Manager) ask(ctx context.Context) {
	m.due.check = time.Now().Add(jitter(m.opt.CheckEvery))
	if m.asked != nil {
		return
	}
	q, word := m.question(), make(chan ownWord, 1)
	m.asked = word
	go func() { word <- m.readOwn(ctx, q) }()
}

// checked acts on etcd's word on our own lease.
func (m *Manager) checked(ctx context.Context, w ownWord) error {
	before := m.own
	if w.own != before { // renamed or taken again since it was asked
		m.due.check = time.Now()
		return nil
	}
	err := m.compareOwn(ctx, w)
	if m.own != before {
		m.publish()
	}
	m.due.check = time.Now().Add(jitter(m.opt.CheckEvery))
	if errors.Is(err, errChanges) { // which is no reason to end the watch
		m.due.check = time.Now().Add(min(lookAgain, m.opt.CheckEvery))
		return nil
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrFenced) || errors.Is(err, errResync) {
		return err
	}
	m.unreachable(err)
	m.due.check = time.Now().Add(m.retryAfter())
	return nil
}

// errChanges says that our lease changes while we look: to be looked at again.
var errChanges = fmt.Errorf("%w: our lease changes while we look", errResync)

// lookAgain is how soon. It bears a watch that is behind by as much, and leaves a
// host that asks for our lease (keptByTwin) most of its patience.
const lookAgain = time.Second / 2

// compareOwn looks whether etcd is what the watch makes us believe. After the
// connection broke, the watch goes on where it was, with an etcd that may be
// another; so the whole table is compared too, not by all hosts at once. A mere
// late answer is no reason: an etcd that is slow under load must not be asked for
// everything by every host.
func (m *Manager) compareOwn(ctx context.Context, w ownWord) error {
	if w.err != nil {
		return w.err
	}
	told, known := m.table.leases[m.own.Name]
	if err := m.judge(ctx, w.lease, w.found); err != nil {
		return err
	}
	m.reachable()
	if m.broke {
		m.broke = false
		m.compareWithin(herd(len(m.table.leases)))
	}
	before := m.behind
	m.behind = known != w.found || told.ModRevision != w.lease.ModRevision
	switch {
	case w.at.cluster != m.cluster:
		return fmt.Errorf("%w: another cluster answers", errResync)
	case w.at.revision < w.revision:
		return fmt.Errorf("%w: etcd went back from revision %d to %d, as after a restore", errResync, w.revision, w.at.revision)
	case m.behind && !before:
		return errChanges
	case m.behind:
		return fmt.Errorf("%w: lease %s changed and the watch has not said so", errResync, m.own.Name)
	}
	return nil
}

// judge decides what our key, as etcd has it, means for us. nil: the lease is
// ours (again). ErrFenced: it is another's. errResync: it changes while we look.
// All else: etcd did not answer.
func (m *Manager) judge(ctx context.Context, l Lease, found bool) error {
	switch {
	case !found:
		return m.retake(ctx)
	case l.ModRevision == m.own.ModRevision && l.ID == m.own.ID && l.Value == m.own.Value:
		return m.update(ctx)
	case l.Err != nil:
		return m.restore(ctx, l)
	}
	if err := m.lostTo(l); err != nil {
		return err
	}
	if m.provisional {
		return m.claimCached(ctx, l)
	}
	return m.restore(ctx, l)
}

// lostTo is an ErrFenced where l, as it was written over our lease, is another's.
func (m *Manager) lostTo(l Lease) error {
	switch {
	case !m.opt.Identity.Owns(l.Value):
		return fmt.Errorf("%w: %s now belongs to node %q (id %q) at %s", ErrFenced, l.Subnet, l.Node, l.NodeID, endpoint(l, m.config))
	case m.provisional || !m.doubled(l):
		return nil
	case l.NodeID != "":
		return fmt.Errorf("%w: %s was taken by node %q at %s, which has the same node id as this host; remove the file %s from the state directory of one of them",
			ErrFenced, l.Subnet, l.Node, endpoint(l, m.config), nodeIDFile)
	}
	return fmt.Errorf("%w: %s was taken by node %q, which has the same endpoint %s as this host", ErrFenced, l.Subnet, l.Node, endpoint(l, m.config))
}

// believe takes the watch's word on our lease, where etcd is not there any more to
// be asked: what it has told of another owner is committed.
func (m *Manager) believe() error {
	told := m.table.leases[m.own.Name]
	if told.ModRevision <= m.own.ModRevision || told.Err != nil {
		return nil
	}
	return m.lostTo(told)
}

// doubled reports whether l, by its identity ours, was written by another twill
// (which always names its port; a person may not). To put our value back would
// only begin a quarrel. What we wrote ourselves before this host moved on, its answer
// lost or not, is not another's; nor is what was written before our last write, which
// etcd has only after a restore.
func (m *Manager) doubled(l Lease) bool {
	v := l.answered()
	if v == m.own.Value || slices.Contains(m.wrote, v) || l.ModRevision < m.own.ModRevision {
		return false
	}
	return m.elsewhere(l)
}

// elsewhere reports whether l names another endpoint or host name than ours.
func (m *Manager) elsewhere(l Lease) bool {
	us := m.opt.Identity
	moved := l.PublicIP != us.PublicIP || l.Port != us.Port
	renamed := l.Node != "" && l.Node != us.Node
	return l.Port != 0 && (moved || renamed)
}

// update makes our lease, which is as we left it, say what is true by now.
func (m *Manager) update(ctx context.Context) error {
	if m.own.Value == m.wanted(m.own) {
		return nil
	}
	l, won, err := m.rewrite(ctx, m.own)
	if err != nil {
		return fmt.Errorf("write lease %s: %w", m.own.Name, err)
	}
	if !won {
		return errChanges
	}
	m.own = l
	m.log.Info("our lease says what is true now", "lease", l.Name, "endpoint", endpoint(l, m.config))
	return nil
}

// claimCached is claim for a start without etcd, once that answers.
func (m *Manager) claimCached(ctx context.Context, l Lease) error {
	if m.elsewhere(l) {
		asked, won, err := m.keptByTwin(ctx, l)
		if err != nil {
			return err
		}
		if !won {
			return fmt.Errorf("%w: lease %s changes while we look", errResync, l.Name)
		}
		l = asked
	}
	return m.restore(ctx, l)
}

// restore adopts our key as somebody rewrote it and puts our value back, which is
// the answer to a host that asks (keptByTwin).
func (m *Manager) restore(ctx context.Context, l Lease) error {
	asked := l.Asks
	l, won, err := m.rewrite(ctx, l)
	if err != nil {
		return fmt.Errorf("write lease %s again: %w", m.own.Name, err)
	}
	if !won {
		return errChanges
	}
	switch {
	case l.Reserved():
		m.due.renew = time.Time{}
		m.vitals.leasedFrom(now(), 0)
	case l.ID != m.own.ID:
		m.due.renew = time.Now()
	}
	m.own = l
	if asked {
		m.log.Warn("another host asked for our lease and was told that we hold it; has it this one's node id or address?", "lease", l.Name)
	} else {
		m.log.Info("our lease was changed in etcd; it is as it should be again", "lease", l.Name)
	}
	return nil
}

// retake creates our vanished key again, for the same subnet. If somebody else
// is faster, the next look at it is what counts.
func (m *Manager) retake(ctx context.Context) error {
	asked := now()
	value := m.opt.Identity.value()
	l, won, err := m.registry.create(ctx, m.own.Key, value, m.opt.TTL)
	if l.ID != 0 {
		m.granted = append(m.granted, l.ID) // revokeLost drops it if it is not used
	}
	if err != nil {
		m.noteLost(value)
		return fmt.Errorf("take vanished lease %s again: %w", m.own.Name, err)
	}
	if !won {
		return errChanges
	}
	m.own = l
	m.renewed(asked, m.opt.TTL)
	m.log.Warn("our lease had vanished from etcd; took the same subnet again", "lease", l.Name)
	return nil
}
