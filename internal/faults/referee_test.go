package faults

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"twill/internal/api"
	"twill/internal/lab"
)

// refereeInterval is how often every daemon is asked what it forwards: often
// enough for the seconds that a wrong owner would last, and no load.
const refereeInterval = 25 * time.Millisecond

// referee watches that no two daemons forward one subnet.
type referee struct {
	hosts  []*lab.Host
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	rounds int
	fouls  map[netip.Prefix]string // who forwarded it, at the first time
}

func watchOwners(hosts []*lab.Host) *referee {
	ctx, cancel := context.WithCancel(context.Background())
	r := &referee{hosts: hosts, cancel: cancel, fouls: map[netip.Prefix]string{}}
	r.done.Go(func() {
		tick := time.NewTicker(refereeInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				r.look(ctx)
			}
		}
	})
	return r
}

func (r *referee) stop() {
	r.cancel()
	r.done.Wait()
}

// look asks every daemon once. Two that name one subnet are asked again: the
// first may have let go of it before the second took it.
func (r *referee) look(ctx context.Context) {
	owners := map[netip.Prefix]*lab.Host{}
	for _, h := range r.hosts {
		own := forwards(ctx, h)
		first, twice := owners[own]
		switch {
		case !own.IsValid():
		case twice && forwards(ctx, first) == own && forwards(ctx, h) == own:
			r.foul(own, fmt.Sprintf("%s and %s", first.Name, h.Name))
		default:
			owners[own] = h
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rounds++
}

// forwards is the subnet that the daemon of h forwards; the zero Prefix: none, or
// no daemon runs.
func forwards(ctx context.Context, h *lab.Host) netip.Prefix {
	var s api.Status
	if err := api.Get(ctx, socket(h), api.StatusPath, &s); err != nil {
		return netip.Prefix{}
	}
	return s.Subnet
}

func socket(h *lab.Host) string { return filepath.Join(h.RunDir(), "twill.sock") }

func (r *referee) foul(s netip.Prefix, who string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.fouls[s]; !known {
		r.fouls[s] = who
	}
}

// count adds to r what was seen since the last count.
func (r *referee) count(to *result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to.rounds += r.rounds
	maps.Copy(to.fouls, r.fouls)
	r.fouls, r.rounds = map[netip.Prefix]string{}, 0
}
