package main

import (
	"context"
	"fmt"
	"time"

	"twill/internal/lab"
)

// joinResult is how a host joins a large network.
type joinResult struct {
	Leases int `json:"leases"`
	// Requests to etcd until the host forwards, by method.
	Requests requests `json:"requests"`
	// Medians, minima and maxima of the rounds.
	TableMs spread `json:"full_table_ms"`
	RangeMs spread `json:"one_range_ms"` // only reading the keys, in a process of its own
	// Memory of the process, in MB of 10^6 bytes, beside that of one which joined an empty
	// network.
	Memory      memory `json:"memory"`
	EmptyMemory memory `json:"memory_of_empty_network"`
	// ChangeMs is the host's CPU time for one change of a lease at the rate of the watch
	// measurement.
	ChangeCPUMs float64 `json:"cpu_per_change_ms"`
}

type memory struct {
	HeapMB    float64 `json:"heap_mb"`
	RSSMB     float64 `json:"rss_mb"`
	PeakRSSMB float64 `json:"peak_rss_mb"`
}

// measureJoin lets a host join an empty network once, and one with many leases again and
// again, beside one that only reads.
func measureJoin(ctx context.Context, o options) (r joinResult, err error) {
	r.Leases = o.leases
	s, err := startStore(ctx)
	if err != nil {
		return r, err
	}
	defer s.stop()
	empty, err := s.joinOnce(ctx, o.leases, 0)
	if err != nil {
		return r, fmt.Errorf("an empty network: %w", err)
	}
	r.EmptyMemory = empty.memory
	say("writing %d leases", o.leases)
	if err := s.fill(ctx, 0, o.leases); err != nil {
		return r, err
	}
	say("a host joins, %d times", o.rounds)
	var tables, ranges []float64
	for i := range o.rounds {
		one, err := s.joinOnce(ctx, o.leases+1+i, o.leases+1+i)
		if err != nil {
			return r, err
		}
		took, err := s.rangeOnce(ctx)
		if err != nil {
			return r, err
		}
		tables = append(tables, milliseconds(one.took))
		ranges = append(ranges, milliseconds(took))
		r.Requests, r.Memory = one.requests, one.memory
	}
	r.TableMs, r.RangeMs = spreadOf(tables), spreadOf(ranges)
	r.ChangeCPUMs, err = s.costOfChanges(ctx, o)
	return r, err
}

// oneJoin is what one host that joined has cost.
type oneJoin struct {
	took     time.Duration
	requests requests
	memory   memory
}

// joinOnce lets host i join in a new process, to find so many peers.
func (s *store) joinOnce(ctx context.Context, i, peers int) (one oneJoin, err error) {
	node, err := start(ctx, "node")
	if err != nil {
		return one, err
	}
	defer node.stop()
	before, err := s.requests()
	if err != nil {
		return one, err
	}
	var first joined
	if err := node.ask(joinRequest{s.endpoint, i}, &first); err != nil {
		return one, err
	}
	after, err := s.requests()
	if err != nil {
		return one, err
	}
	if first.Peers != peers {
		return one, fmt.Errorf("host %d has %d peers, want %d", i, first.Peers, peers)
	}
	one.took, one.requests = first.Took, after.since(before)
	usage, err := node.usage()
	if err != nil {
		return one, err
	}
	var second settled
	if err := node.ask(struct{}{}, &second); err != nil {
		return one, err
	}
	one.memory = memory{HeapMB: megabytes(int64(second.HeapBytes)), RSSMB: megabytes(usage.RSS), PeakRSSMB: megabytes(usage.PeakRSS)}
	return one, nil
}

func (s *store) rangeOnce(ctx context.Context) (time.Duration, error) {
	c, err := start(ctx, "range")
	if err != nil {
		return 0, err
	}
	defer c.stop()
	var read joined
	err = c.ask(joinRequest{Endpoint: s.endpoint}, &read)
	return read.Took, err
}

// changesTime is for how long one host's cost of changes is measured at most.
const changesTime = 5 * time.Second

// costOfChanges is the CPU time in ms that one host spends on a change.
func (s *store) costOfChanges(ctx context.Context, o options) (float64, error) {
	node, err := start(ctx, "node")
	if err != nil {
		return 0, err
	}
	defer node.stop()
	if err := node.ask(joinRequest{s.endpoint, o.leases}, &joined{}); err != nil {
		return 0, err
	}
	if err := node.ask(struct{}{}, &settled{}); err != nil {
		return 0, err
	}
	var before, after lab.Usage
	if before, err = node.usage(); err != nil {
		return 0, err
	}
	changes, err := s.churn(ctx, 0, o.leases, o.rate, min(o.churn, changesTime))
	if err != nil {
		return 0, err
	}
	if after, err = node.usage(); err != nil {
		return 0, err
	}
	return milliseconds(after.CPU-before.CPU) / float64(len(changes)), nil
}
