package faults

import (
	"testing"
	"time"
)

// clientTimeouts is how long a connection may be silent before the daemon's client
// gives it up: two of gRPC's keepalive times of 10 s, and a margin.
const clientTimeouts = 25 * time.Second

// What happens to one etcd as a whole, and to the packets to it.
func TestOutages(t *testing.T) {
	t.Parallel()
	applyFaults(t, worldOptions{members: 1, daemons: 3}, []fault{
		{name: "etcd stopped", quick: true, apply: func(w *world) func() {
			w.must(w.etcd.members[0].stop(w.patient()))
			return func() { w.must(w.etcd.start(w.patient())) }
		}},
		{name: "etcd killed (kill -9)", apply: func(w *world) func() {
			w.etcd.members[0].kill()
			return func() { w.must(w.etcd.start(w.patient())) }
		}},
		{name: "etcd paused (SIGSTOP)", atLeast: clientTimeouts, apply: func(w *world) func() {
			w.must(w.etcd.members[0].pause())
			return func() { w.must(w.etcd.members[0].resume()) }
		}},
		{name: "packets to etcd dropped", quick: true, apply: filtered(dropSilently)},
		{name: "packets to etcd dropped for long", atLeast: clientTimeouts, apply: filtered(dropSilently)},
		{name: "packets to etcd refused", apply: filtered(refuse)},
		{name: "half of the packets to etcd lost", atLeast: 10 * time.Second, apply: func(w *world) func() {
			lift := filtered(loseHalf)(w)
			// Something to do: requests that have to get through.
			_, err := w.etcd.client.Revoke(w.rpc(), w.leaseID(0))
			w.must(err)
			return lift
		}, after: (*world).wantSameSubnets},
	})
}

// filtered is a fault of the network between the daemons and all of etcd. What
// changes in etcd meanwhile they have to learn later.
func filtered(verdict string) func(*world) func() {
	return func(w *world) func() {
		for _, m := range w.etcd.members {
			w.must(filterPackets(m.host, w.hosts, verdict))
		}
		w.mark()
		return func() {
			for _, m := range w.etcd.members {
				w.must(removeFilter(m.host))
			}
		}
	}
}
