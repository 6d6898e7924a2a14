package faults

import (
	"fmt"
	"testing"
)

// What happens to some of three members.
func TestCluster(t *testing.T) {
	t.Parallel()
	applyFaults(t, worldOptions{members: 3, daemons: 2}, []fault{
		{name: "leader of three killed", apply: func(w *world) func() {
			w.leader().kill()
			return func() { w.must(w.etcd.start(w.patient())) }
		}},
		{name: "leader of three paused", atLeast: clientTimeouts, apply: func(w *world) func() {
			leader := w.leader()
			w.must(leader.pause())
			return func() { w.must(leader.resume()) }
		}},
		{name: "leader of three cut off from daemons", apply: func(w *world) func() {
			leader := w.leader()
			w.must(filterPackets(leader.host, w.hosts, dropSilently))
			w.mark()
			return func() { w.must(removeFilter(leader.host)) }
		}},
		{name: "leader of three cut off from members", atLeast: clientTimeouts, apply: func(w *world) func() {
			leader := w.leader()
			w.must(dropPeers(leader.host))
			return func() { w.must(removeFilter(leader.host)) }
		}},
		{name: "quorum of three lost", apply: func(w *world) func() {
			leader := w.leader()
			for _, m := range w.etcd.members {
				if m != leader {
					m.kill()
				}
			}
			return func() { w.must(w.etcd.start(w.patient())) }
		}},
	})
}

// leader is the member that leads now.
func (w *world) leader() (leader *member) {
	w.t.Helper()
	w.waitFor("a leader", func() error {
		for _, m := range w.etcd.members {
			resp, err := w.etcd.client.Status(w.rpc(), m.config.Client)
			if err != nil {
				return err
			}
			if resp.Leader == resp.Header.MemberId {
				leader = m
				return nil
			}
		}
		return fmt.Errorf("none of %d members leads", len(w.etcd.members))
	})
	return leader
}
