package tunnel

import (
	"slices"
	"time"
)

// The path MTU of a peer that runs twill is found with its help, in the spirit of RFC 8899: probes of several sizes are sent, with DF,
// and the largest that is answered counts. ICMP "fragmentation needed" about our own packets, which the kernel keeps, is only a reason
// to look: anybody who knows the two addresses can forge it, and a path that drops the larger packets in silence sends none.

const (
	// minPathLimit is the smallest limit that is believed in: a packet that with the outer headers has the 576 bytes that every
	// host must take (RFC 791 section 3.2).
	minPathLimit = 576 - encapsulation
	// encapsulation is the length of the outer IP and UDP header.
	encapsulation = minHeaderLen + udpHeaderLen
	// mtuVolleys is how often a size is tried before it counts as too large, MAX_PROBES of RFC 8899 section 5.1.2.
	mtuVolleys = 3
	// mtuSizes is how many sizes a round of a search without a hint tries at a time: two rounds find the limit of an Ethernet to a few
	// bytes.
	mtuSizes = 16
	// mtuPrecision is the difference, in bytes, at which a search ends.
	mtuPrecision = 4
	// mtuRaise is after which time a limit is tried to be raised, PMTU_RAISE_TIMER of RFC 8899 section 5.1.1 and the 10 minutes of
	// RFC 1191 section 6.3.
	mtuRaise = 10 * time.Minute
	// mtuUnanswered is the same after a search that nobody answered: the limit may be one that only the kernel spoke of (doubt).
	mtuUnanswered = time.Minute
)

// A pathMTU finds the limit of one path. It does no input or output and has no clock: step says what to send, answered is told what came
// back.
type pathMTU struct {
	top   int       // the largest size that is wanted, the MTU of the device
	limit int       // the largest size that is known to pass; 0: none yet
	raise time.Time // when to look for a larger limit
	round *mtuRound // in progress, or nil
	again bool      // the path has changed during the search: it is followed by another
	hint  int       // a limit that the path may well have, because another has; 0: none
}

// An mtuRound asks for some sizes at once.
type mtuRound struct {
	sizes     []int // rising
	search    bool  // else a check of one size
	low, high int   // of a search: low passes, or is minPathLimit; high does not, as far as is known
	best      int   // the largest size that was answered; 0: none
	alive     bool  // something was answered, perhaps only the probe without padding
	id        uint64
	volleys   int
	sent      time.Time
}

// setTop changes the largest size that is wanted, if it is another. What is known of larger ones then means nothing.
func (m *pathMTU) setTop(top int) {
	if top == m.top {
		return
	}
	if m.limit >= min(m.top, top) {
		m.limit = 0
	}
	m.top, m.round, m.again, m.raise = top, nil, false, time.Time{}
}

// current returns the limit, or the top as long as there is none.
func (m *pathMTU) current() int {
	if m.limit == 0 {
		return m.top
	}
	return m.limit
}

func (m *pathMTU) searching() bool { return m.round != nil && m.round.search }

// check begins to ask whether the limit, or the top if there is none yet, passes.
func (m *pathMTU) check(id uint64) {
	m.round = &mtuRound{sizes: []int{m.current()}, id: id}
}

// search begins to look for the limit among all sizes. A hint, if not 0, is a size that it may well be; a right one is known to be right
// after three volleys of a few probes.
func (m *pathMTU) search(id uint64, hint int) {
	low, high := min(minPathLimit, m.top), m.top
	if low < hint && hint < high {
		sizes := slices.Compact([]int{low, hint, min(hint+mtuPrecision, high), high})
		m.round = &mtuRound{search: true, low: low, high: high, sizes: sizes, id: id}
		return
	}
	m.searchBetween(id, low, high)
}

// doubt keeps what the kernel says of the path, if not 0, in force until a search that begins now has found the limit: the peer can be
// asked from now on.
func (m *pathMTU) doubt(id uint64, kernelLimit int, now time.Time) {
	if kernelLimit != 0 && kernelLimit < m.current() {
		m.settle(kernelLimit, now)
		m.search(id, kernelLimit)
	}
}

// searchBetween begins a round of a search. Its largest size is high: if that passes, the search ends.
func (m *pathMTU) searchBetween(id uint64, low, high int) {
	r := &mtuRound{search: true, low: low, high: high, id: id}
	for i := range mtuSizes {
		size := low + (high-low)*(i+1)/mtuSizes
		if i == 0 {
			r.sizes = append(r.sizes, low)
		}
		if size > r.sizes[len(r.sizes)-1] {
			r.sizes = append(r.sizes, size)
		}
	}
	m.round = r
}

// step returns the sizes to send probes of now, if any, where an answer takes at most timeout. The first may be 0: a probe without
// padding, which tells a peer that is away from a path that is small. newID makes the IDs of rounds. may is asked whether so many
// probes may be sent now; if not, they are sent by a later step.
func (m *pathMTU) step(now time.Time, timeout time.Duration, newID func() uint64, may func(n int) bool) []int {
	for m.round != nil {
		r := m.round
		if r.best < r.sizes[len(r.sizes)-1] {
			if r.volleys > 0 && now.Sub(r.sent) < timeout {
				return nil
			}
			if r.volleys < mtuVolleys {
				return r.volley(now, may)
			}
		}
		m.finish(now, newID)
	}
	return nil
}

// volley returns the sizes for which there is no answer yet, nor for a larger one, if so many probes may be sent.
func (r *mtuRound) volley(now time.Time, may func(n int) bool) []int {
	var sizes []int
	if !r.alive && (r.search || r.volleys > 0) {
		sizes = append(sizes, 0)
	}
	for _, size := range r.sizes {
		if size > r.best {
			sizes = append(sizes, size)
		}
	}
	if !may(len(sizes)) {
		return nil
	}
	r.volleys++
	r.sent = now
	return sizes
}

// answered takes the answer to a probe that arrived with the given size.
func (m *pathMTU) answered(id uint64, size int) {
	r := m.round
	if r == nil || r.id != id {
		return
	}
	r.alive = true
	if size >= r.sizes[0] {
		r.best = max(r.best, min(size, m.top))
	}
}

// finish draws the conclusions of a round, and begins the next if there is one.
func (m *pathMTU) finish(now time.Time, newID func() uint64) {
	r := m.round
	m.round = nil
	switch {
	case !r.alive: // the peer is away, which says nothing of the path
		if soon := now.Add(mtuUnanswered); r.search && m.raise.After(soon) {
			m.raise = soon
		}
	case !r.search && r.best == 0:
		m.search(newID(), m.hint)
	case !r.search:
		m.settle(r.best, now)
	case r.best == 0:
		m.settle(r.low, now) // there is nothing smaller to try
	default:
		next := r.high
		for _, size := range r.sizes {
			if size > r.best {
				next = min(next, size)
			}
		}
		if next-r.best > mtuPrecision {
			m.searchBetween(newID(), r.best, next-1)
			return
		}
		m.settle(r.best, now)
	}
	if m.again && m.round == nil {
		m.again = false
		m.search(newID(), m.hint)
	}
}

// settle sets the limit.
func (m *pathMTU) settle(limit int, now time.Time) {
	if limit != m.limit {
		m.limit = limit
		m.raise = now.Add(mtuRaise)
	}
}

// mayRaise says whether it is time to look for a larger limit.
func (m *pathMTU) mayRaise(now time.Time) bool {
	if m.limit == 0 || m.limit >= m.top || now.Before(m.raise) {
		return false
	}
	m.raise = now.Add(mtuRaise)
	return true
}
