package subnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// DefaultTTL is Flannel's lease time, and ours: a host may be away this long
// and still find its subnet.
const DefaultTTL = 24 * time.Hour

// Options of a Manager. Zero values of the durations mean their defaults, but
// for Grace, where zero means none.
type Options struct {
	Identity    Identity     // Port 0: the network config's
	Previous    netip.Prefix // subnet of an earlier run; the zero Prefix: none
	TTL         time.Duration
	RenewMargin time.Duration // renew at least this long before expiry
	Grace       time.Duration // how long a vanished lease stays in use
	CheckEvery  time.Duration // how often etcd is asked whether our lease is still ours
	Cache       *Cache        // keeps what is known for a start without etcd; nil: none
	Log         *slog.Logger
	// Publish gets every new View, from the goroutine of Run.
	Publish func(View)
}

const defaultCheckEvery = 30 * time.Second

// Manager holds this host's lease and follows everybody's. Its methods are for
// one goroutine.
type Manager struct {
	registry *Registry
	opt      Options
	log      *slog.Logger

	config  Config
	rawConf []byte // as etcd holds it
	// configProblem says in what this host is not as rawConf wants it.
	configProblem string
	portOfConfig  bool      // our port is the network config's, not asked for
	first         *Snapshot // read by Configure, used by Acquire
	own           Lease
	granted       []clientv3.LeaseID // etcd leases of this process: Abandon gives them back
	table         *table
	etcd          EtcdState
	cluster       uint64 // etcd's cluster id
	due           due
	pace          pace
	moves         chan netip.Addr // to which this host has moved, from MoveTo
	// wrote are values whose write got no answer.
	wrote []Value
	// asked brings etcd's word on our own lease; nil: nobody has asked.
	asked <-chan ownWord
	// broke: the connection did, and the table has not been compared since.
	broke bool

	confirmed instant       // etcd keeps our lease for ttl from here on
	ttl       time.Duration // 0 of a reservation
	// provisional: our lease is the cache's and etcd has not said a word on it.
	provisional bool
	cached      time.Time // the table is of this time; the zero Time: etcd's

	turns atomic.Uint64 // of Run's loops
}

// due holds when the parts of Run have to act next.
type due struct {
	renew time.Time // our etcd lease; the zero Time for a reservation
	check time.Time
	full  time.Time
	view  time.Time // the zero Time: the latest view is published
}

// NewManager prepares a Manager; it does no I/O.
func NewManager(r *Registry, o Options) *Manager {
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.CheckEvery == 0 {
		o.CheckEvery = defaultCheckEvery
	}
	return &Manager{registry: r, opt: o, log: o.Log, table: newTable(o.Grace), moves: make(chan netip.Addr, 1)}
}

// Configure reads and validates the network config. If there is none and
// initial is not nil, initial is written, by a compare: another host's wins.
func (m *Manager) Configure(ctx context.Context, initial *Config) (Config, error) {
	s, err := m.registry.Snapshot(ctx)
	if err != nil {
		return Config{}, err
	}
	if s.ConfigRev == 0 && initial != nil {
		if s, err = m.writeConfig(ctx, *initial); err != nil {
			return Config{}, err
		}
	}
	c, err := s.ParseConfig()
	if err != nil {
		return Config{}, err
	}
	m.config, m.rawConf, m.first = c, s.Config, &s
	if m.portOfConfig = m.portOfConfig || m.opt.Identity.Port == 0; m.portOfConfig {
		m.opt.Identity.Port = c.Port
	}
	return c, nil
}

func (m *Manager) writeConfig(ctx context.Context, c Config) (Snapshot, error) {
	created, err := m.registry.CreateConfig(ctx, c)
	if err != nil {
		return Snapshot{}, err
	}
	if created {
		m.log.Info("wrote the network config", "config", string(c.JSON()))
	}
	return m.registry.Snapshot(ctx)
}

// View is the network as it is now.
func (m *Manager) View() View {
	v := m.table.view(m.config, m.own, m.etcd)
	v.Cached, v.ConfigProblem = m.cached, m.configProblem
	return v
}

// LongestTurn is more than any turn of Run takes, whatever etcd does: a wait of half a minute and a handful of RPCs that all
// end at their deadlines.
const LongestTurn = 3 * time.Minute

// Turns counts the turns of Run, for a watchdog: it grows at least once in LongestTurn while Run works. For any goroutine.
func (m *Manager) Turns() uint64 { return m.turns.Load() }

// Run keeps our lease and follows all others until ctx ends (nil) or the
// subnet is proven to be another owner's (ErrFenced). Whatever else happens to
// etcd, it keeps the last table and tries on.
func (m *Manager) Run(ctx context.Context) error {
	m.save(m.View())
	var wait backoff
	for {
		began := time.Now()
		err := errFromCache
		if m.cached.IsZero() {
			err = m.follow(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrFenced):
			return err
		}
		m.log.Debug("reading all leases again", "why", err)
		if time.Since(began) > backoffMax {
			wait = backoff{}
		}
		if err := m.idle(ctx, wait.pause()+m.spread(err)); errors.Is(err, ErrFenced) {
			return err
		}
		if err := m.resync(ctx); errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// idle keeps the lease for a time, without a watch. It returns nil, ErrFenced or
// ctx's error.
func (m *Manager) idle(ctx context.Context, d time.Duration) error {
	m.due.full = time.Now().Add(d)
	for {
		m.turns.Add(1)
		if err := m.pause(ctx, time.Until(m.nextDue())); err != nil {
			return err
		}
		now := time.Now()
		if !m.due.full.After(now) {
			return nil
		}
		if err := m.act(ctx, now); errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// resync reads everything anew, however long that takes, and keeps the lease
// meanwhile. It returns nil, ErrFenced or ctx's error.
func (m *Manager) resync(ctx context.Context) error {
	var wait backoff
	for {
		m.turns.Add(1)
		err := m.reload(ctx)
		if err == nil || errors.Is(err, ErrFenced) {
			return err
		}
		if ctx.Err() == nil && !errors.Is(err, errResync) {
			m.unreachable(err)
		}
		if err := m.pause(ctx, wait.pause()); err != nil {
			return err
		}
		if err := m.act(ctx, time.Now()); errors.Is(err, ErrFenced) {
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
	s, err := m.registry.snapshot(ctx)
	if err != nil {
		return err
	}
	m.table.load(s, time.Now())
	m.broke = false
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
		m.provisional = false
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
	events, lost, err := m.registry.watch(watchCtx, m.table.revision+1)
	if err != nil {
		return err
	}
	m.due.full = time.Now().Add(jitter(fullAfter(len(m.table.leases))))
	for {
		m.turns.Add(1)
		wake := time.NewTimer(time.Until(m.nextDue()))
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
		case <-lost:
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
		}
	}
}

func (m *Manager) nextDue() time.Time {
	next := m.due.full
	for _, t := range []time.Time{m.due.renew, m.due.check, m.due.view, m.nextExpiry()} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return next
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
		if err := m.check(ctx); err != nil {
			return err
		}
	}
	if !m.due.full.After(now) {
		return errDue
	}
	return nil
}

func (m *Manager) publish() {
	began := time.Now()
	defer func() {
		m.due.view = time.Time{}
		m.pace.published(began, time.Now())
	}()
	v := m.View()
	if m.opt.Publish != nil {
		m.opt.Publish(v)
	}
	m.save(v)
}

// save puts what v knows into the cache.
func (m *Manager) save(v View) {
	if m.opt.Cache == nil || !v.Cached.IsZero() {
		return
	}
	c := Cached{
		Saved: time.Now(), NodeID: m.opt.Identity.NodeID,
		Prefix: m.registry.prefix, Endpoints: m.registry.config.Endpoints, ClusterID: m.cluster,
		Revision: v.Revision, Config: m.config, Own: m.own, TTL: m.ttl, confirmed: m.confirmed,
	}
	m.opt.Cache.put(func() Cached {
		for _, p := range v.Peers {
			c.Peers = append(c.Peers, p.Lease)
		}
		return c
	})
}

func (m *Manager) reachable() {
	if !m.etcd.Serves {
		if !m.etcd.Since.IsZero() {
			m.log.Info("etcd answers again", "after", time.Since(m.etcd.Since).Round(time.Second))
		}
		m.etcd = EtcdState{Serves: true, Since: time.Now()}
		m.table.extendGrace(time.Now())
		m.publish()
	}
}

func (m *Manager) unreachable(err error) {
	cause := explain(err)
	if m.etcd.Serves {
		m.log.Warn("etcd does not serve us; forwarding goes on with the last table", "err", cause)
		m.etcd = EtcdState{Since: time.Now()}
	}
	if m.etcd.Err != cause {
		m.etcd.Err, m.etcd.Refuses = cause, refuses(err)
		m.publish()
	}
}

// publishSoon publishes, at once unless it has just been done.
func (m *Manager) publishSoon(now time.Time) {
	if now.Before(m.pace.next) {
		m.due.view = m.pace.next
		return
	}
	m.publish()
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

// noteCluster says that etcd is another cluster than before: restored from a
// backup, or made anew. All leases have just been compared.
func (m *Manager) noteCluster(id uint64) {
	if id != m.cluster {
		m.log.Warn("another etcd cluster answers, as after a restore; took its leases", "cluster", fmt.Sprintf("%x", id), "before", fmt.Sprintf("%x", m.cluster))
		m.cluster = id
	}
}

// Abandon gives back what Acquire created, after a start that failed, also
// where etcd's answer was lost. A lease that was there before stays.
func (m *Manager) Abandon(ctx context.Context) error {
	for _, id := range m.granted {
		if err := m.registry.revoke(ctx, id); err != nil {
			return fmt.Errorf("give back lease %s: %w", m.own.Name, err)
		}
	}
	return nil
}
