package faults

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"twill/internal/lab"
)

const (
	// streamRate is what runs between two pods in each direction, packets a second.
	streamRate = 1000

	// truthLimit bounds the time to truth: the longest pause before the daemon
	// tries again (15 s), one request that finds nobody (4 s), and a busy machine.
	truthLimit = 30 * time.Second

	// grace is the daemons' --lease-grace. It must be longer than a daemon may
	// take to be back after the others, which is bounded as the time to truth is.
	grace = 20 * time.Second
)

// fault is something that happens to etcd, or to what is between it and the
// daemons.
type fault struct {
	name  string
	quick bool // cheap enough for every test run
	// atLeast is the shortest hold in which the fault shows: longer than the
	// client's time-outs, say. Zero: -hold counts.
	atLeast time.Duration
	// hurts: it ends the last host's daemon, as it should; no stream runs there.
	hurts bool
	// vanishes: a lease goes for good, so the truth waits for the grace time.
	vanishes bool
	// apply begins the fault and returns what lifts it; nil: it is over at once.
	apply func(*world) (lift func())
	// after is asserted once every table is true again; nil: nothing more.
	after func(*world)
}

// chosen are the faults that this run applies.
func chosen(faults []fault) (some []fault) {
	for _, f := range faults {
		if f.quick || *applyAll {
			some = append(some, f)
		}
	}
	return some
}

// applyFaults makes faults happen to one world, each as a test of its own. After
// one that failed the next gets a new world.
func applyFaults(t *testing.T, o worldOptions, faults []fault) {
	faults = chosen(faults)
	for len(faults) > 0 {
		faults = applyUntilFailure(t, o, faults)
	}
}

func applyUntilFailure(t *testing.T, o worldOptions, faults []fault) (rest []fault) {
	first := faults[0]
	ended := t.Run("world of "+first.name, func(t *testing.T) {
		w := newWorld(t, o)
		for len(faults) > 0 {
			f := faults[0]
			faults = faults[1:]
			if !t.Run(f.name, func(t *testing.T) { w.suffer(t, f) }) {
				return
			}
		}
	})
	if !ended && len(faults) > 0 && faults[0].name == first.name {
		return nil // the world itself could not be made
	}
	return faults
}

// suffer applies one fault and measures.
func (w *world) suffer(t *testing.T, f fault) {
	before := w.t
	w.t, w.ctx = t, t.Context()
	defer func() { w.t, w.ctx = before, before.Context() }()

	test, _, _ := strings.Cut(t.Name(), "/")
	r := result{group: strings.TrimPrefix(test, "Test"), fault: f.name, limit: truthLimit, fouls: map[netip.Prefix]string{}}
	if f.vanishes {
		r.limit += grace
	}
	w.count(&r) // from before: of that only two owners matter, which never may be
	r.sent, r.lost, r.rounds = 0, 0, 0
	streams := w.startStreams(f)
	lift := f.apply(w)
	if lift != nil {
		w.hold(f)
		lift()
	}
	lifted := time.Now()
	w.waitTruth()
	r.truth = time.Since(lifted)
	if lift == nil { // it may still show
		w.hold(f)
	}
	for _, s := range streams.stop() {
		r.sent += s.Sent
		r.lost += s.Lost()
		r.duplicated += s.Duplicated
	}
	w.count(&r)
	r.check(t)
	r.keep()
	if r.lost > 0 {
		w.logLosses()
	}
	if f.after != nil {
		f.after(w)
	}
}

// count adds to r what referee and crowd have seen since the last count.
func (w *world) count(r *result) {
	w.referee.count(r)
	if w.crowd != nil {
		w.crowd.count(r)
	}
}

// hold lets time pass: it is what the fault does in it that counts.
func (w *world) hold(f fault) { time.Sleep(max(*holdFor, f.atLeast)) }

// streams run between the pods of neighbouring hosts, one in each direction.
type streams []*lab.Stream

func (w *world) startStreams(f fault) (all streams) {
	w.t.Helper()
	hosts := w.hosts
	if f.hurts {
		hosts = hosts[:len(hosts)-1]
	}
	for i := 1; i < len(hosts); i++ {
		a, b := hosts[i-1].Pods[0], hosts[i].Pods[0]
		for _, ends := range [][2]*lab.Namespace{{a, b}, {b, a}} {
			s, err := lab.StartStream(w.ctx, ends[0], ends[1], lab.StreamOptions{Rate: streamRate})
			w.must(err)
			all = append(all, s)
		}
	}
	return all
}

// stop stops all streams at once, since each waits for its stragglers.
func (all streams) stop() []lab.StreamReport {
	reports := make([]lab.StreamReport, len(all))
	var group errgroup.Group
	for i, s := range all {
		group.Go(func() error {
			reports[i] = s.Stop()
			return nil
		})
	}
	group.Wait()
	return reports
}
