package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"twill/subnet"
)

// fleetRequest is the first request to a fleet, answered when each host has its lease
// and every other.
type fleetRequest struct {
	Endpoint     string
	First, Count int
	Peers        int // that each is to find
}

// reachRequest is each further request: when did these changes reach the hosts?
type reachRequest struct{ Changes []change }

// change is a lease rewritten at a time, which was etcd's revision then.
type change struct {
	Revision int64
	At       time.Time // just before the write
}

// reached says how long changes took to be in the tables, in ms.
type reached struct {
	Each spread // over hosts and changes
	All  spread // over changes: until the last host had it
	// Published counts the tables made by all hosts for these changes.
	Published int
}

const (
	// joiners bounds how many hosts join at a time.
	joiners = 32
	// fleetPatience bounds each wait for all hosts.
	fleetPatience = 2 * time.Minute
)

// fleetGC is GOGC. A collection marks the tables of all hosts, gigabytes, while
// each of them waits for a processor; a host of its own has but one table. So
// there are fewer here than with Go's 100, for twice the memory.
const fleetGC = 200

// runFleet is many hosts in one process.
func runFleet(ctx context.Context, p *parent) error {
	var request fleetRequest
	if err := p.read(&request); err != nil {
		return err
	}
	debug.SetGCPercent(fleetGC)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hosts := make([]*member, request.Count)
	group, joinCtx := errgroup.WithContext(ctx)
	group.SetLimit(joiners)
	for i := range hosts {
		group.Go(func() (err error) {
			if err := joinCtx.Err(); err != nil {
				return err
			}
			hosts[i], err = joinMember(ctx, request.Endpoint, request.First+i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, m := range hosts {
		if err := m.wait(func(l look) bool { return l.peers == request.Peers }); err != nil {
			return fmt.Errorf("want %d peers: %w", request.Peers, err)
		}
		m.forget()
	}
	runtime.GC() // of what joining left behind
	if err := p.answer(struct{}{}); err != nil {
		return err
	}
	for {
		var request reachRequest
		if err := p.read(&request); err != nil {
			return err
		}
		r, err := reach(hosts, request.Changes)
		if err != nil {
			return err
		}
		if err := p.answer(r); err != nil {
			return err
		}
	}
}

// member is a host that remembers when it had which revision.
type member struct {
	mu    sync.Mutex
	looks []look
}

// look is a table as it was made at a time.
type look struct {
	revision int64
	peers    int
	at       time.Time
}

func joinMember(ctx context.Context, endpoint string, i int) (*member, error) {
	m := &member{}
	h, err := join(ctx, endpoint, i, m.publish)
	if err != nil {
		return nil, fmt.Errorf("host %d: %w", i, err)
	}
	m.publish(h.manager.View())
	go func() {
		if err := h.manager.Run(ctx); err != nil {
			log.Error("a host gave up", "host", i, "err", err)
		}
	}()
	return m, nil
}

func (m *member) publish(v subnet.View) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks = append(m.looks, look{v.Revision, len(v.Peers), time.Now()})
}

// forget returns all looks; the member remembers the latest.
func (m *member) forget() []look {
	m.mu.Lock()
	defer m.mu.Unlock()
	looks := m.looks
	m.looks = []look{looks[len(looks)-1]}
	return looks
}

// wait waits until ok of the latest look.
func (m *member) wait(ok func(look) bool) error {
	var last look
	for end := time.Now().Add(fleetPatience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		m.mu.Lock()
		last = m.looks[len(m.looks)-1]
		m.mu.Unlock()
		if ok(last) {
			return nil
		}
	}
	return fmt.Errorf("a host has %d peers at revision %d after %v", last.peers, last.revision, fleetPatience)
}

// reach waits until every host knows all changes, which are in order, and forgets what
// the hosts remember.
func reach(hosts []*member, changes []change) (r reached, err error) {
	last := changes[len(changes)-1].Revision
	slowest := make([]float64, len(changes))
	var each []float64
	for _, m := range hosts {
		if err := m.wait(func(l look) bool { return l.revision >= last }); err != nil {
			return r, err
		}
		looks := m.forget()
		for i, c := range changes {
			had, _ := slices.BinarySearchFunc(looks, c.Revision, func(l look, revision int64) int { return int(l.revision - revision) })
			took := milliseconds(looks[had].at.Sub(c.At))
			each = append(each, took)
			slowest[i] = max(slowest[i], took)
		}
		r.Published += len(looks) - 1
	}
	r.Each, r.All = spreadOf(each), spreadOf(slowest)
	return r, nil
}
