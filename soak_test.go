//go:build attack

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"twill/internal/lab"
)

const (
	// soakTime is how long TestSoak runs unless SOAK says otherwise.
	soakTime = 2 * time.Minute
	// churnInterval and churnBatch make 500 changes of leases a second, among
	// churnLeases of them.
	churnInterval = 100 * time.Millisecond
	churnBatch    = 50
	churnLeases   = 100
	// tempo is how often, on average, a daemon restarts and the underlay changes.
	tempo = 4 * time.Second
	// soakTransfer is one TCP transfer, in bytes, of the many under way.
	soakTransfer = 16 << 20
)

// TestSoak loads two hosts as far as it goes while leases churn, a third host's
// daemon is stopped and killed, and the underlay loses packets. The first host's
// daemon must hold no more at the end than at the start, and count right.
func TestSoak(t *testing.T) {
	length := soakTime
	if s := os.Getenv("SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil || length < 10*time.Second {
			t.Fatalf("SOAK=%q: want a duration of 10s or more", s)
		}
	}
	c := newCluster(t, 3, `{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0"}`)
	ctx, cancel := context.WithTimeout(t.Context(), length+4*patience)
	defer cancel()
	c.ctx = ctx
	daemons := c.startAll("--lease-grace", "1s")
	s := &soak{cluster: c, restarting: daemons[2], random: rand.New(rand.NewPCG(uint64(length), 0))}
	c.must(s.addLossRules())
	var err error
	s.backlog, err = backlogDrops()
	c.must(err)

	w := newSoakWatch(c, daemons[0])
	w.sample("quiet")
	s.run(length, w)
	c.waitPeers(c.Hosts[0], 2)
	c.pingAll()
	w.settle()
	w.judge()
	s.checkCounters()
	c.stop(daemons[0])
	c.stop(daemons[1])
	for _, d := range append(daemons, s.restarting) {
		if log := d.Log(); strings.Contains(log, "panic:") || strings.Contains(log, "DATA RACE") {
			t.Errorf("%s says:\n%s", d, log)
		}
	}
}

type soak struct {
	*cluster
	restarting *lab.Process // of the third host
	random     *rand.Rand
	moved      int   // transfers that are done
	backlog    int64 // what the kernel's backlog had dropped before
}

// run does everything at once until the time is over.
func (s *soak) run(length time.Duration, w *soakWatch) {
	s.t.Helper()
	// Load ends softly: a transfer is not cut.
	ctx, cancel := context.WithTimeout(s.ctx, length)
	defer cancel()
	var group errgroup.Group
	pods := s.pods()
	done := make(chan struct{}, 1024)
	for _, flow := range [][2]int{{0, 1}, {1, 0}, {0, 1}, {0, 2}, {2, 0}, {2, 1}} {
		group.Go(func() error { return s.transfers(ctx, pods[flow[0]], pods[flow[1]], done) })
	}
	group.Go(func() error { return s.small(ctx, pods[0], pods[1]) })
	group.Go(func() error { return s.churn(ctx) })
	group.Go(func() error { return s.trouble(ctx) })
	group.Go(func() error { return w.run(ctx) })
	finished := make(chan error, 1)
	go func() { finished <- group.Wait() }()
	for {
		select {
		case <-done:
			s.moved++
		case err := <-finished:
			s.must(err)
			s.t.Logf("%v: %d transfers of %d MB", length, s.moved, soakTransfer>>20)
			return
		}
	}
}

// transfers moves data over one connection after the other; each must arrive.
func (s *soak) transfers(ctx context.Context, from, to *lab.Namespace, done chan<- struct{}) error {
	for ctx.Err() == nil {
		if _, err := lab.Transfer(s.ctx, from, to, soakTransfer); err != nil {
			return err
		}
		done <- struct{}{}
	}
	return nil
}

// small keeps a stream of small packets going; the underlay loses some.
func (s *soak) small(ctx context.Context, from, to *lab.Namespace) error {
	stream, err := lab.StartStream(ctx, from, to, lab.StreamOptions{Rate: 2000})
	if err != nil {
		return err
	}
	<-ctx.Done()
	r := stream.Stop()
	if r.Duplicated > 0 || r.Received == 0 {
		return fmt.Errorf("of %d packets %d arrived, %d twice", r.Sent, r.Received, r.Duplicated)
	}
	s.t.Logf("of %d small packets %d were lost, the longest gap is %v", r.Sent, r.Lost(), r.LongestGap)
	return nil
}

// churn puts, moves and deletes leases of hosts that do not exist, and leaves none.
func (s *soak) churn(ctx context.Context) error {
	random := rand.New(rand.NewPCG(1, 0))
	key := func(i int) string { return fmt.Sprintf("%s/subnets/10.5.%d.0-24", defaultPrefix, 150+i) }
	tick := time.NewTicker(churnInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		var ops []clientv3.Op
		for _, i := range random.Perm(churnLeases)[:churnBatch] {
			value := fmt.Sprintf(`{"PublicIP":"198.19.%d.%d","BackendType":"udp","BackendData":{"Proto":1,"Node":"n%d","NodeID":"id%d","Port":8285}}`,
				random.IntN(4), 1+random.IntN(200), i, i)
			if random.IntN(2) == 0 {
				ops = append(ops, clientv3.OpPut(key(i), value))
			} else {
				ops = append(ops, clientv3.OpDelete(key(i)))
			}
		}
		if _, err := s.etcd.Txn(s.ctx).Then(ops...).Commit(); err != nil {
			return fmt.Errorf("churn leases: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	var all []clientv3.Op
	for i := range churnLeases {
		all = append(all, clientv3.OpDelete(key(i)))
	}
	_, err := s.etcd.Txn(s.ctx).Then(all...).Commit()
	return err
}

// trouble restarts the third host's daemon and changes the underlay's loss.
func (s *soak) trouble(ctx context.Context) error {
	third := s.Hosts[2]
	for {
		pause := time.NewTimer(time.Duration(s.random.Int64N(int64(2 * tempo))))
		select {
		case <-ctx.Done():
			pause.Stop()
			return s.setLoss(0)
		case <-pause.C:
		}
		if err := s.setLoss([]int{0, 1, 5, 30}[s.random.IntN(4)]); err != nil {
			return err
		}
		if s.random.IntN(2) == 0 {
			s.restarting.Kill()
		} else if code, err := s.restarting.Stop(s.ctx); err != nil || code != exitOK {
			return errors.Join(err, fmt.Errorf("%s: exit code %d", s.restarting, code))
		}
		p, err := third.StartDaemon("--lease-grace", "1s")
		if err != nil {
			return err
		}
		if err := p.Ready(s.ctx); err != nil {
			return err
		}
		s.restarting = p
	}
}

// addLossRules makes the chain in which tunnel packets to the first two hosts are
// lost, and counted.
func (s *soak) addLossRules() error {
	for _, h := range s.Hosts[:2] {
		for _, command := range []string{
			"add table ip soak",
			"add counter ip soak lost",
			"add chain ip soak in { type filter hook input priority 0; }",
		} {
			if err := h.Exec(s.ctx, "nft", command); err != nil {
				return err
			}
		}
	}
	return nil
}

// setLoss sets the share of packets that are lost, in thousandths.
func (s *soak) setLoss(perMille int) error {
	for _, h := range s.Hosts[:2] {
		if err := h.Exec(s.ctx, "nft", "flush chain ip soak in"); err != nil {
			return err
		}
		rule := fmt.Sprintf("add rule ip soak in udp dport 8285 numgen random mod 1000 < %d counter name lost drop", perMille)
		if perMille == 0 {
			continue
		}
		if err := h.Exec(s.ctx, "nft", rule); err != nil {
			return err
		}
	}
	return nil
}
