package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"twill/internal/lab"
)

// watchResult is how many hosts follow changes, and what they cost etcd.
type watchResult struct {
	Nodes  int     `json:"nodes"`
	Leases int     `json:"leases"`
	JoinS  float64 `json:"all_joined_s"`
	Rest   cost    `json:"at_rest"`
	// Churns are by rate, the lower one first.
	Churns []churnResult `json:"while_changing"`
	// NodeMB is the fleet's memory by node, everything included.
	NodeMB float64 `json:"rss_per_node_mb"`
	EtcdMB float64 `json:"rss_of_etcd_mb"`
}

// churnResult is how the hosts follow at one rate of changes.
type churnResult struct {
	Rate      int     `json:"changes_per_s_wanted"`
	Changes   int     `json:"changes"`
	ChangesPS float64 `json:"changes_per_s"`
	EachMs    spread  `json:"change_reaches_a_node_ms"`
	AllMs     spread  `json:"change_reaches_all_ms"`
	// TablesPer is how many tables a node made for a change: changes that come close together
	// share one.
	TablesPer float64 `json:"tables_per_change"`
	// Cost is from the first write until the last host has the last change.
	Cost cost `json:"cost"`
	// Of etcd and of one node, for one change that reaches one node, in CPU time.
	EtcdDeliveryUs float64 `json:"cpu_of_etcd_per_delivery_us"`
	NodeDeliveryUs float64 `json:"cpu_of_node_per_delivery_us"`
}

// cost is what etcd and all nodes cost for a time.
type cost struct {
	Seconds  float64  `json:"seconds"`
	Requests requests `json:"requests"`
	// PerNodeMinute are the requests per node and minute.
	PerNodeMinute float64 `json:"requests_per_node_and_minute"`
	EtcdCPU       float64 `json:"cpu_of_etcd"` // of one core: 1 is all of it
	NodesCPU      float64 `json:"cpu_of_all_nodes"`
	// OthersCPU is everything else's on the machine, the writer's of changes included.
	OthersCPU float64 `json:"cpu_of_others"`
}

// measureWatch lets many hosts join, looks on for a time, and then changes leases of others.
func measureWatch(ctx context.Context, o options) (r watchResult, err error) {
	r.Nodes, r.Leases = o.nodes, o.nodes+o.others
	s, err := startStore(ctx)
	if err != nil {
		return r, err
	}
	defer s.stop()
	if err := s.fill(ctx, 0, o.others); err != nil {
		return r, err
	}
	fleet, err := start(ctx, "fleet")
	if err != nil {
		return r, err
	}
	defer fleet.stop()
	say("%d hosts join", o.nodes)
	began := time.Now()
	if err := fleet.ask(fleetRequest{Endpoint: s.endpoint, First: o.others, Count: o.nodes, Peers: r.Leases - 1}, nil); err != nil {
		return r, err
	}
	r.JoinS = time.Since(began).Seconds()

	say("the hosts rest for %v", o.rest)
	r.Rest, err = s.costOf(fleet, o.nodes, func() error { return pause(ctx, o.rest) })
	if err != nil {
		return r, err
	}
	for _, rate := range []int{o.steady, o.rate} {
		say("%d leases a second change for %v", rate, o.churn)
		c, err := s.measureChurn(ctx, fleet, o, rate)
		if err != nil {
			return r, err
		}
		r.Churns = append(r.Churns, c)
	}
	return r, r.addMemory(s, fleet)
}

// measureChurn changes leases at a rate and waits until every host has the last change.
func (s *store) measureChurn(ctx context.Context, fleet *child, o options, rate int) (c churnResult, err error) {
	var (
		reached reached
		writing time.Duration
	)
	c.Rate = rate
	c.Cost, err = s.costOf(fleet, o.nodes, func() error {
		began := time.Now()
		changes, err := s.churn(ctx, 0, o.others, rate, o.churn)
		if err != nil {
			return err
		}
		c.Changes, writing = len(changes), time.Since(began)
		return fleet.ask(reachRequest{changes}, &reached)
	})
	if err != nil {
		return c, err
	}
	deliveries := float64(o.nodes * c.Changes)
	c.EachMs, c.AllMs = reached.Each, reached.All
	c.ChangesPS = float64(c.Changes) / writing.Seconds()
	c.TablesPer = float64(reached.Published) / deliveries
	c.EtcdDeliveryUs = c.Cost.EtcdCPU * c.Cost.Seconds / deliveries * 1e6
	c.NodeDeliveryUs = c.Cost.NodesCPU * c.Cost.Seconds / deliveries * 1e6
	return c, nil
}

func (r *watchResult) addMemory(s *store, fleet *child) error {
	nodes, err := fleet.usage()
	if err != nil {
		return err
	}
	etcd, err := s.usage()
	if err != nil {
		return err
	}
	r.NodeMB = megabytes(nodes.RSS) / float64(r.Nodes)
	r.EtcdMB = megabytes(etcd.RSS)
	return nil
}

// costOf measures what etcd and the fleet need while f runs.
func (s *store) costOf(fleet *child, nodes int, f func() error) (c cost, err error) {
	before, err := s.reading(fleet)
	if err != nil {
		return c, err
	}
	if err := f(); err != nil {
		return c, err
	}
	after, err := s.reading(fleet)
	if err != nil {
		return c, err
	}
	c.Seconds = after.at.Sub(before.at).Seconds()
	c.Requests = after.requests.since(before.requests)
	c.PerNodeMinute = float64(c.Requests.total()) / float64(nodes) / c.Seconds * 60
	c.EtcdCPU = (after.etcd.CPU - before.etcd.CPU).Seconds() / c.Seconds
	c.NodesCPU = (after.fleet.CPU - before.fleet.CPU).Seconds() / c.Seconds
	c.OthersCPU = (after.machine-before.machine).Seconds()/c.Seconds - c.EtcdCPU - c.NodesCPU
	return c, nil
}

// reading is the state of all meters.
type reading struct {
	at          time.Time
	requests    requests
	etcd, fleet lab.Usage
	machine     time.Duration // CPU time of everything
}

func (s *store) reading(fleet *child) (r reading, err error) {
	r.at = time.Now()
	if r.requests, err = s.requests(); err != nil {
		return r, err
	}
	if r.etcd, err = s.usage(); err != nil {
		return r, err
	}
	if r.fleet, err = fleet.usage(); err != nil {
		return r, err
	}
	r.machine, err = lab.MachineCPU()
	return r, err
}

// churn moves hosts first to first+n, one after the other, to another port and back, at a rate
// per second and for a time. A write that is late is made up for.
func (s *store) churn(ctx context.Context, first, n, rate int, length time.Duration) ([]change, error) {
	count := int(length.Seconds() * float64(rate))
	changes := make([]change, 0, count)
	began := time.Now()
	for i := range count {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if err := pause(ctx, time.Until(due)); err != nil {
			return nil, err
		}
		at := time.Now()
		revision, err := s.put(ctx, first+i%n, port+1+uint16(i/n%2), clientv3.WithIgnoreLease())
		if err != nil {
			return nil, fmt.Errorf("change a lease: %w", err)
		}
		changes = append(changes, change{revision, at})
	}
	return changes, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
