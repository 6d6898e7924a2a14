package subnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Cache keeps what this host knows in a file, so that it can start while etcd
// is away. The Manager puts, Run writes; so no disk ever holds up the lease.
type Cache struct {
	path string
	log  *slog.Logger
	next chan func() Cached // makes the latest that is not yet written

	mu        sync.Mutex // of the file
	discarded bool
}

// NewCache prepares a Cache in the state directory dir; it does no I/O.
func NewCache(dir string, log *slog.Logger) *Cache {
	return &Cache{path: CachePath(dir), log: log, next: make(chan func() Cached, 1)}
}

// CachePath is where the cache lies in a state directory.
func CachePath(dir string) string { return filepath.Join(dir, "cache.json") }

const (
	cacheVersion = 1
	// cacheEvery bounds how often the file is written.
	cacheEvery = 5 * time.Second
	// maxCacheSize is enough for 100,000 leases, in bytes.
	maxCacheSize = 64 << 20
	// driftShare of the lease time is left as a margin for clocks that do not
	// run at etcd's speed. Quartz is better by two orders of magnitude.
	driftShare = 100
)

// put never waits: only the latest counts. Run calls state, which must not
// touch what may change.
func (c *Cache) put(state func() Cached) {
	select {
	case <-c.next:
	default:
	}
	c.next <- state
}

// Run writes what the Manager puts, until ctx ends. A disk that is full or
// read-only is said once, and costs nothing but the next start without etcd.
func (c *Cache) Run(ctx context.Context) error {
	failed := ""
	for {
		select {
		case <-ctx.Done():
			c.writeLast()
			return nil
		case state := <-c.next:
			err := c.write(state())
			switch {
			case err != nil && err.Error() != failed:
				c.log.Warn("the cache cannot be written: this host could not start while etcd is away; trying on", "err", err)
				failed = err.Error()
			case err == nil && failed != "":
				c.log.Info("the cache is written again", "path", c.path)
				failed = ""
			}
		}
		if sleep(ctx, cacheEvery) != nil {
			c.writeLast()
			return nil
		}
	}
}

func (c *Cache) writeLast() {
	select {
	case state := <-c.next:
		if err := c.write(state()); err != nil {
			c.log.Debug("the last state is not in the cache", "err", err)
		}
	default:
	}
}

func (c *Cache) write(state Cached) error {
	raw, err := json.Marshal(state.raw())
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.discarded {
		return nil
	}
	if err := renameio.WriteFile(c.path, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

// Discard removes the file, and nothing is written any more: our subnet is
// another's.
func (c *Cache) Discard() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.discarded = true
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

// Cached is what a host has to know to forward without etcd.
type Cached struct {
	Saved  time.Time
	NodeID string
	// Prefix and Endpoints say whose data this is; ClusterID is etcd's own word.
	Prefix    string
	Endpoints []string
	ClusterID uint64
	Revision  int64
	Config    Config
	Own       Lease
	// TTL is how long etcd keeps Own at least, from confirmed on.
	TTL       time.Duration
	confirmed instant
	Peers     []Lease // one whose value does not parse has Err
}

// rawCached is the file.
type rawCached struct {
	Version   int
	Saved     time.Time
	NodeID    string
	Prefix    string
	Endpoints []string
	ClusterID uint64
	Revision  int64
	Config    Config
	Own       rawLease
	TTL       int64 // seconds
	Confirmed instant
	Peers     []rawLease
}

// rawLease is a key under subnets/ with what etcd says of it.
type rawLease struct {
	Name           string
	Value          json.RawMessage
	ID             clientv3.LeaseID
	CreateRevision int64
	ModRevision    int64
}

func (c Cached) raw() rawCached {
	r := rawCached{
		Version: cacheVersion, Saved: c.Saved, NodeID: c.NodeID,
		Prefix: c.Prefix, Endpoints: c.Endpoints, ClusterID: c.ClusterID,
		Revision: c.Revision, Config: c.Config, Own: rawLeaseOf(c.Own),
		TTL: int64(c.TTL / time.Second), Confirmed: c.confirmed,
		Peers: make([]rawLease, 0, len(c.Peers)),
	}
	for _, l := range c.Peers {
		r.Peers = append(r.Peers, rawLeaseOf(l))
	}
	return r
}

func rawLeaseOf(l Lease) rawLease {
	return rawLease{Name: l.Name, Value: l.Value.Marshal(), ID: l.ID, CreateRevision: l.CreateRevision, ModRevision: l.ModRevision}
}

func (r rawLease) lease() Lease {
	l := Lease{Name: r.Name, ID: r.ID, CreateRevision: r.CreateRevision, ModRevision: r.ModRevision}
	l.parse(r.Value)
	return l
}

// parseCached reads the file as it would etcd's data: everything is checked, and
// a peer that does not parse costs that peer.
func parseCached(raw []byte) (Cached, error) {
	var version struct{ Version int }
	if err := unmarshal(raw, &version); err != nil {
		return Cached{}, err
	}
	if version.Version != cacheVersion {
		return Cached{}, fmt.Errorf("field Version %d: this twill reads %d", version.Version, cacheVersion)
	}
	var r rawCached
	if err := unmarshal(raw, &r); err != nil {
		return Cached{}, err
	}
	c := Cached{
		Saved: r.Saved, NodeID: r.NodeID, Prefix: r.Prefix, Endpoints: r.Endpoints, ClusterID: r.ClusterID,
		Revision: r.Revision, Config: r.Config, Own: r.Own.lease(), TTL: time.Duration(r.TTL) * time.Second, confirmed: r.Confirmed,
	}
	switch {
	case c.Saved.IsZero():
		return Cached{}, errors.New("field Saved: required")
	case c.Config == Config{}:
		return Cached{}, errors.New("field Config: required")
	case c.Own.Err != nil:
		return Cached{}, fmt.Errorf("field Own: %w", c.Own.Err)
	case c.Revision < 1:
		return Cached{}, fmt.Errorf("field Revision %d: want 1 or higher", c.Revision)
	case r.TTL < 0 || r.TTL > int64(maxTTL/time.Second):
		return Cached{}, fmt.Errorf("field TTL %d: want 0 to %.0f seconds", r.TTL, maxTTL.Seconds())
	}
	if err := c.Config.Check(c.Own.Subnet); err != nil {
		return Cached{}, fmt.Errorf("field Own: %w", err)
	}
	if problem := Problem(c.Own, c.Config, netip.Prefix{}); problem != "" {
		return Cached{}, fmt.Errorf("field Own: %s", problem)
	}
	for _, l := range r.Peers {
		c.Peers = append(c.Peers, l.lease())
	}
	return c, nil
}

// maxTTL is etcd's longest lease (lease.MaxLeaseTTL).
const maxTTL = 9_000_000_000 * time.Second

// Load reads the cache of an earlier run. An error says why it must not be used,
// and wraps fs.ErrNotExist where there is none.
//
// A host may go on with its cached lease, though nobody confirms it, as long as
// etcd cannot have given the subnet to another:
//
//   - etcd keeps a lease for its TTL from the last renewal on, by its own
//     monotonic clock, and longer if its leader changes. Before that only an
//     operator takes it away.
//   - Peers accept a subnet's packets from its lease's endpoint only, and send
//     there. So at another address than the lease's, where a copied disk would
//     come up, it would be of no use; it is refused there.
//
// A running daemon is in the same position when it is cut off from etcd, but for
// the time limit.
func (c *Cache) Load(id Identity, etcd EtcdConfig) (Cached, error) { return c.load(id, etcd, now()) }

func (c *Cache) load(id Identity, etcd EtcdConfig, at instant) (Cached, error) {
	raw, err := readLimited(c.path, maxCacheSize)
	if err != nil {
		return Cached{}, fmt.Errorf("cache: %w", err)
	}
	state, err := parseCached(raw)
	if err == nil {
		err = state.usable(id, etcd, at)
	}
	if err != nil {
		return Cached{}, fmt.Errorf("cache %s: %w", c.path, err)
	}
	return state, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return raw, err
}

func (c Cached) usable(id Identity, etcd EtcdConfig, at instant) error {
	switch own := c.Own; {
	case c.NodeID != id.NodeID:
		return fmt.Errorf("written for node id %q, this host has %q", c.NodeID, id.NodeID)
	case c.Prefix != etcd.prefix():
		return fmt.Errorf("written for etcd-prefix %q, now it is %q", c.Prefix, etcd.prefix())
	case !slices.ContainsFunc(c.Endpoints, func(e string) bool { return slices.Contains(etcd.Endpoints, e) }):
		return fmt.Errorf("written for the etcd at %q, which has no endpoint in common with %q", c.Endpoints, etcd.Endpoints)
	case !id.Owns(own.Value):
		return fmt.Errorf("lease %s belongs to node id %q", own.Name, own.NodeID)
	case own.PublicIP != id.PublicIP:
		return fmt.Errorf("lease %s names the public IP %s, this host has %s: peers would refuse its packets", own.Name, own.PublicIP, id.PublicIP)
	case id.Port != 0 && own.Port != id.Port:
		return fmt.Errorf("lease %s names port %d, now it is %d: peers would not reach it", own.Name, own.Port, id.Port)
	case own.Reserved():
		return nil
	}
	age, err := c.confirmed.since(at)
	if err != nil {
		return fmt.Errorf("the age of lease %s is not known: %w", c.Own.Name, err)
	}
	if limit := c.TTL - c.TTL/driftShare; age < 0 || age >= limit {
		return fmt.Errorf("lease %s was last confirmed %v ago, more than its %v: another host may hold the subnet by now",
			c.Own.Name, age.Round(time.Second), limit)
	}
	return nil
}
