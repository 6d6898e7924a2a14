package subnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
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
	// cacheEvery bounds how often the file is written.
	cacheEvery = 5 * time.Second
	// maxCacheSize is enough for 100,000 leases, in bytes.
	maxCacheSize = 64 << 20
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
