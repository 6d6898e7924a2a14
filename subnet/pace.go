package subnet

import (
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// publishShare bounds what the publishing of changes takes of one core: after
	// a table that took 8 ms to put in force the next one waits for 80.
	publishShare = 10
	// publishSoonest is the shortest wait: less than a TCP sender waits before it
	// repeats (200 ms on Linux), so that nobody feels it. publishLatest is the
	// longest, however slow the machine is.
	publishSoonest = 50 * time.Millisecond
	publishLatest  = time.Second
)

// pace spaces the tables that changes make: the first one is in force at once,
// those that follow it closely share one.
type pace struct{ next time.Time }

// published notes that a table was published from began to now.
func (p *pace) published(began, now time.Time) {
	p.next = now.Add(min(max(publishSoonest, publishShare*now.Sub(began)), publishLatest))
}

// Each of n hosts that reads the whole table reads n leases, so that what a fleet
// asks of etcd grows with the square of its size. These bound it, in leases a
// second; a lease is some 250 bytes, and etcd reads about 250,000 a second on
// one core.
const (
	// compareRate is for comparisons, which go on for ever.
	compareRate = 50_000
	// herdRate is for reading all after a common cause: an outage, a compaction, a
	// restore.
	herdRate = 100_000

	// compareEvery is how often the whole table is compared with etcd's, against
	// watches that lie, in networks that are small enough.
	compareEvery = 10 * time.Minute
)

// fullAfter is how often a host compares its table of n leases: every 10 minutes
// up to some 5,000 hosts, every 33 minutes in a network of 10,000.
func fullAfter(n int) time.Duration { return max(compareEvery, squareAt(n, compareRate)) }

// herd is a random wait before a host reads its n leases anew because something
// happened to all hosts: up to 0.1 s in a network of 100, 10 s in one of 1,000.
func herd(n int) time.Duration { return rand.N(squareAt(n, herdRate) + 1) }

// spread is how long to wait before reading all, because of cause.
func (m *Manager) spread(cause error) time.Duration {
	switch {
	case errors.Is(cause, errDue):
		return 0 // its time was random already, and the watch has ended for it
	case errors.Is(cause, errFromCache):
		return 0 // as at any start
	}
	return herd(len(m.table.leases))
}

// squareAt is how long n times n leases take at a rate per second.
func squareAt(n, rate int) time.Duration {
	return time.Duration(float64(n) * float64(n) / float64(rate) * float64(time.Second))
}

// resumeRate is how many hosts a second resume their watches after a common cause,
// an election mostly: each reads its own key and opens a watch.
const resumeRate = 10_000

// stagger is a random wait before this host resumes its watch.
func (m *Manager) stagger() time.Duration {
	return rand.N(time.Duration(len(m.table.leases)+1) * time.Second / resumeRate)
}

// planComparison follows the reading of the whole table.
func (m *Manager) planComparison() {
	m.due.full = time.Now().Add(jitter(fullAfter(len(m.table.leases))))
}

// compareWithin brings the next full comparison forward.
func (m *Manager) compareWithin(d time.Duration) {
	if at := time.Now().Add(d); at.Before(m.due.full) {
		m.due.full = at
	}
}
