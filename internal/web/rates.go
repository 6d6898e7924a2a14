package web

import (
	"net/netip"
	"sync"
	"time"

	"twill/internal/api"
)

// row is a peer with what it moves at present.
type row struct {
	api.Peer
	// TxRate and RxRate are in bytes a second; less than 0: not known yet.
	TxRate, RxRate float64
}

// Name is what the page calls a peer.
func (r row) Name() string {
	if r.Node != "" {
		return r.Node
	}
	return r.Subnet.Addr().String()
}

// ToDo is what to do about a peer that is not up; there is nothing about one that is only silent.
func (r row) ToDo() string {
	if r.State == api.StateSilent {
		return ""
	}
	return r.Remedy
}

// Rate is that of both directions.
func (r row) Rate() float64 { return max(r.TxRate, 0) + max(r.RxRate, 0) }

// traffic is a direction's counters, with its rate in bytes a second; less than 0: not known yet.
type traffic struct {
	api.Counters
	Rate float64
}

// rates finds rates between the requests for a page, whoever makes them.
type rates struct {
	mu     sync.Mutex
	at     time.Time // of last
	last   map[netip.Prefix]moved
	before map[netip.Prefix]moved // since the last but one, in bytes a second
}

// moved is how many bytes, or bytes a second, have passed.
type moved struct{ tx, rx float64 }

// leastSpan is the time that a rate is at least over, mostSpan that after which nobody would take it for the present one.
const (
	leastSpan = 2 * time.Second
	mostSpan  = time.Minute
)

// rows joins peers, and the whole, with their rates.
func (r *rates) rows(peers []api.Peer, s api.Status, now time.Time) (rows []row, tx, rx traffic) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if span := now.Sub(r.at); span >= leastSpan {
		r.sample(peers, s, now, span)
	}
	rows = make([]row, len(peers))
	for i := range peers {
		rate := r.rate(peers[i].Subnet)
		rows[i] = row{peers[i], rate.tx, rate.rx}
	}
	all := r.rate(netip.Prefix{})
	return rows, traffic{s.Tx, all.tx}, traffic{s.Rx, all.rx}
}

func (r *rates) rate(subnet netip.Prefix) moved {
	if rate, ok := r.before[subnet]; ok {
		return rate
	}
	return moved{-1, -1}
}

// sample notes the counters; the zero Prefix has those of the whole.
func (r *rates) sample(peers []api.Peer, s api.Status, now time.Time, span time.Duration) {
	next := make(map[netip.Prefix]moved, len(peers)+1)
	next[netip.Prefix{}] = moved{float64(s.Tx.Bytes), float64(s.Rx.Bytes)}
	for i := range peers {
		next[peers[i].Subnet] = moved{float64(peers[i].TxBytes), float64(peers[i].RxBytes)}
	}
	r.before = make(map[netip.Prefix]moved, len(next))
	for subnet, n := range next {
		// A peer that has moved to another endpoint counts anew.
		if l, ok := r.last[subnet]; ok && span <= mostSpan && n.tx >= l.tx && n.rx >= l.rx {
			r.before[subnet] = moved{(n.tx - l.tx) / span.Seconds(), (n.rx - l.rx) / span.Seconds()}
		}
	}
	r.last, r.at = next, now
}
