package subnet

import (
	"sync/atomic"
	"time"
)

// vitals are what the lease's loop knows of itself, for any goroutine: without them in a View, it need not publish one for
// each question to etcd.
type vitals struct {
	latency atomic.Int64           // ns; 0: nothing was asked yet
	term    atomic.Pointer[leased] // nil: we hold no lease yet
}

// leased is for how long etcd keeps our lease.
type leased struct {
	from instant
	ttl  time.Duration // 0 of a reservation
}

// answered notes how long etcd took for the question asked at began.
func (v *vitals) answered(began time.Time) { v.latency.Store(int64(time.Since(began))) }

func (v *vitals) leasedFrom(from instant, ttl time.Duration) { v.term.Store(&leased{from, ttl}) }

// Latency returns how long etcd took for the last question about our own lease that it answered; 0 before the first. For any
// goroutine.
func (m *Manager) Latency() time.Duration { return time.Duration(m.vitals.latency.Load()) }

// LeaseLeft returns how long etcd keeps our lease from now on at least; 0 once it may have expired. It is false for a
// reservation, which does not expire, before there is a lease, and where the clock was set so that nobody can tell. For any
// goroutine.
func (m *Manager) LeaseLeft() (left time.Duration, known bool) {
	term := m.vitals.term.Load()
	if term == nil || term.ttl == 0 {
		return 0, false
	}
	age, err := term.from.since(now())
	if err != nil {
		return 0, false
	}
	return max(0, term.ttl-age), true
}
