package subnet

import (
	"context"
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
	// behind: the watch has not yet said what etcd's latest word on our lease was.
	behind bool

	confirmed instant       // etcd keeps our lease for ttl from here on
	ttl       time.Duration // 0 of a reservation
	// provisional: our lease is the cache's and etcd has not said a word on it.
	provisional bool
	cached      time.Time // the table is of this time; the zero Time: etcd's

	turns  atomic.Uint64 // of Run's loops
	vitals vitals
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

// reachable notes that etcd does what we ask: it has said that our lease is ours.
func (m *Manager) reachable() {
	m.provisional = false
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
