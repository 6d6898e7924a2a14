package subnet

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// LongestTurn is more than any turn of Run takes, whatever etcd does: a wait of half a minute and a handful of RPCs that all
// end at their deadlines. Each page of a table counts as a turn: over a slow link there may be hundreds.
const LongestTurn = 3 * time.Minute

// Turns counts the turns of Run, for a watchdog: it grows at least once in LongestTurn while Run works. For any goroutine.
func (m *Manager) Turns() uint64 { return m.turns.Load() + m.registry.pages.read.Load() }

// Run keeps our lease and follows all others until ctx ends (nil) or the
// subnet is proven to be another owner's (ErrFenced). Whatever else happens to
// etcd, it keeps the last table and tries on.
func (m *Manager) Run(ctx context.Context) error {
	m.save(m.View())
	var r restarts
	for {
		began := time.Now()
		err := errFromCache
		if m.cached.IsZero() {
			err = m.follow(ctx)
		}
		switch {
		case errors.Is(err, ErrFenced):
			return err
		case ctx.Err() != nil:
			return nil
		}
		if r.resume(err, time.Since(began), m.etcd.Serves) {
			m.log.Debug("watching on", "why", err)
			if err = m.resume(ctx, r.wait.pause()+m.stagger()); err == nil {
				continue
			}
			if errors.Is(err, ErrFenced) {
				return err
			}
		}
		m.log.Debug("reading all leases again", "why", err)
		if err := m.idle(ctx, r.wait.pause()+m.spread(err)); errors.Is(err, ErrFenced) {
			return err
		}
		if err := m.resync(ctx); errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// idle keeps the lease for a time, without the watch of the whole table. It returns
// nil, ErrFenced or ctx's error.
func (m *Manager) idle(ctx context.Context, d time.Duration) error {
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	own := m.watchOwn(watchCtx, d)
	end := time.Now().Add(d)
	for {
		m.turns.Add(1)
		wake := time.NewTimer(time.Until(earlier(end, m.nextDue())))
		select {
		case <-ctx.Done():
		case ip := <-m.moves:
			m.move(ip)
		case _, open := <-own:
			if m.due.check = time.Now(); !open {
				own = nil
			}
		case <-wake.C:
		}
		wake.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now := time.Now()
		if !end.After(now) {
			return nil
		}
		if err := m.act(ctx, now); errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// watchOwn watches our lease for a wait of d: who asks for it (keptByTwin) does not
// wait for long, and must not believe that nobody holds it. nil: the wait is shorter
// than that, or there is no connection.
func (m *Manager) watchOwn(ctx context.Context, d time.Duration) <-chan clientv3.WatchResponse {
	if d < twinPatience/2 {
		return nil
	}
	events, err := m.registry.watchLease(ctx, m.own.Name)
	if err != nil {
		return nil // the checks, which come to the same, say it
	}
	return events
}

// resync reads everything anew, however long that takes, and keeps the lease
// meanwhile. It returns nil, ErrFenced or ctx's error.
func (m *Manager) resync(ctx context.Context) error {
	var wait backoff
	for {
		err := m.reload(ctx)
		if err == nil || errors.Is(err, ErrFenced) {
			return err
		}
		if ctx.Err() == nil && !errors.Is(err, errResync) {
			m.unreachable(err)
		}
		if err := m.idle(ctx, wait.pause()); err != nil {
			return err
		}
	}
}

// errFromCache makes Run read everything anew at once.
var errFromCache = errors.New("started from the cache")

// reload replaces the table by one snapshot of etcd's. What etcd does not let us
// write of our lease, as without space, is no reason to read all again: the next
// check writes it.
func (m *Manager) reload(ctx context.Context) error {
	m.registry.forgetBreak()
	s, err := m.registry.snapshot(ctx)
	if err != nil {
		return err
	}
	m.table.load(s, time.Now())
	m.broke, m.behind = false, false
	m.planComparison()
	m.noteCluster(s.ClusterID)
	m.noteConfig(s.Config)
	own, found := m.table.leases[m.own.Name]
	err = m.judge(ctx, own, found)
	if errors.Is(err, ErrFenced) {
		return err
	}
	m.cached = time.Time{}
	switch {
	case err == nil:
		m.revokeLost(ctx, m.own)
		m.due.check = time.Now().Add(jitter(m.opt.CheckEvery))
		m.reachable()
	case ctx.Err() == nil && !errors.Is(err, errResync):
		m.unreachable(err)
		m.due.check = time.Now().Add(m.retryAfter())
		err = nil
	}
	m.publish()
	return err
}

// errResync makes Run read everything anew.
var errResync = errors.New("full comparison")

// errDue makes Run do so because it is this host's time, and no other's.
var errDue = fmt.Errorf("%w: it is time", errResync)

// follow applies the watch's events and keeps the lease, until the watch
// cannot go on from where it was.
func (m *Manager) follow(ctx context.Context) error {
	watchCtx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		m.asked = nil
	}()
	events, err := m.registry.watch(watchCtx, m.table.revision+1)
	if err != nil {
		return err
	}
	for {
		m.turns.Add(1)
		wake := time.NewTimer(time.Until(earlier(m.due.full, m.nextDue())))
		select {
		case <-ctx.Done():
			wake.Stop()
			return ctx.Err()
		case resp, open := <-events:
			wake.Stop()
			if err := watchError(resp, open); err != nil {
				return err
			}
			if err := m.apply(ctx, resp); err != nil {
				return err
			}
		case ip := <-m.moves:
			wake.Stop()
			m.move(ip)
		case word := <-m.asked:
			wake.Stop()
			m.asked = nil
			if err := m.checked(ctx, word); err != nil {
				return err
			}
		case <-m.registry.broke:
			wake.Stop()
			m.broke = true
			if err := m.check(ctx); err != nil {
				return err
			}
		case now := <-wake.C:
			if !m.due.check.After(now) {
				m.ask(watchCtx)
			}
			if err := m.act(ctx, now); err != nil {
				return err
			}
			if !m.due.full.After(now) {
				return errDue
			}
		}
	}
}

// nextDue is when act has something to do.
func (m *Manager) nextDue() time.Time {
	next := m.due.check
	for _, t := range []time.Time{m.due.renew, m.due.view, m.nextExpiry()} {
		if !t.IsZero() {
			next = earlier(next, t)
		}
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// nextExpiry is when a vanished lease has to go; the zero Time: none has.
// While etcd is away none has: its owner could not take it again.
func (m *Manager) nextExpiry() time.Time {
	if !m.etcd.Serves {
		return time.Time{}
	}
	return m.table.nextExpiry()
}

// act does what is due. Only what Run has to know is an error: an etcd that is
// away is noted and tried again.
func (m *Manager) act(ctx context.Context, now time.Time) error {
	if expiry := m.nextExpiry(); !expiry.IsZero() && !expiry.After(now) {
		m.table.expire(now)
		m.publish()
	}
	if !m.due.view.IsZero() && !m.due.view.After(now) {
		m.publish()
	}
	if !m.due.renew.IsZero() && !m.due.renew.After(now) {
		if err := m.keep(ctx); err != nil {
			return err
		}
	}
	if !m.due.check.After(now) {
		return m.check(ctx)
	}
	return nil
}

// apply folds one batch of events into the table and publishes it.
func (m *Manager) apply(ctx context.Context, resp clientv3.WatchResponse) error {
	now := time.Now()
	ownTouched := false
	for _, ev := range resp.Events {
		if m.registry.isConfig(ev.Kv) {
			m.noteConfig(ev.Kv.Value)
			continue
		}
		l, ok := m.registry.leaseOf(ev.Kv)
		if !ok {
			continue
		}
		if ev.Type == clientv3.EventTypeDelete {
			m.table.remove(l.Name, ev.Kv.ModRevision, now)
		} else {
			m.table.put(l, now)
		}
		ownTouched = ownTouched || l.Name == m.own.Name && ev.Kv.ModRevision > m.own.ModRevision
	}
	m.publishSoon(now)
	if !ownTouched {
		return nil
	}
	if err := m.check(ctx); err != nil || m.etcd.Serves {
		return err
	}
	return m.believe()
}
