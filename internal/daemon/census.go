package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"twill/internal/api"
	"twill/subnet"
)

const (
	// namedPeers is how many peers a problem names; `twill peers` has all.
	namedPeers = 3
	// clockTolerance is what clocks that follow NTP differ by at the very most.
	clockTolerance = 3 * time.Second
	// clockQuorum is how many peers have to be heard to say whose clock is off.
	clockQuorum = 3
)

// census is what the peers of a host have in common: how many are in which state, and what is wrong with them.
type census struct {
	states map[api.PeerState]int
	away   []string // names of the first that do not answer
	clocks []clock  // of those that answer
}

// clock is by how much a peer's clock is ahead of ours.
type clock struct {
	peer  string
	ahead time.Duration
}

// takeCensus looks at each peer of t once, and makes nothing that grows with their number but the clocks.
func takeCensus(t *Table, now time.Time) census {
	c := census{states: map[api.PeerState]int{}}
	for i, p := range t.View.Peers {
		stats := t.Peers[i].Stats()
		state := peerState(p, &stats, now)
		c.states[state]++
		switch {
		case state == api.StateUnreachable || state == api.StateIncompatible:
			if len(c.away) < namedPeers {
				c.away = append(c.away, peerName(p))
			}
		case stats.Path.Answers():
			c.clocks = append(c.clocks, clock{peerName(p), stats.Path.ClockAhead})
		}
	}
	if n := len(t.View.Skipped); n > 0 {
		c.states[api.StateIncompatible] += n
	}
	return c
}

// peerName is how a peer is told to people.
func peerName(p *subnet.Peer) string {
	if p.Node != "" {
		return p.Node
	}
	return p.Subnet.String()
}

func (c *census) problems(add func(code, problem, remedy string)) {
	if n := c.states[api.StateUnreachable]; n > 0 {
		add(api.ProblemPeersUnreachable, fmt.Sprintf("%d of %d peers do not answer: %s", n, c.known(), some(c.away, n)),
			"`twill peers --state unreachable` says of each why; of a host that is gone for good, delete the lease (`twill down --release-lease` on it, else `etcdctl del`)")
	}
	c.clockProblems(add)
}

// known is how many peers there are, without the leases that are not used.
func (c *census) known() (n int) {
	for state, count := range c.states {
		if state != api.StateIncompatible {
			n += count
		}
	}
	return n
}

// some lists names, and says how many of all are not among them.
func some(names []string, all int) string {
	list := strings.Join(names, ", ")
	if more := all - len(names); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// clockProblems says whose clock is off. If it is so for most peers, and in the same direction, it is ours.
func (c *census) clockProblems(add func(code, problem, remedy string)) {
	if len(c.clocks) == 0 {
		return
	}
	const remedy = "let an NTP client (chrony, systemd-timesyncd) set the clock: certificates, logs and the age of the cache depend on it"
	median := medianClock(c.clocks)
	if len(c.clocks) >= clockQuorum && median.Abs() > clockTolerance {
		add(api.ProblemClock, fmt.Sprintf("this host's clock is %s most of its %d peers'", offBy(-median, "ahead of", "behind"), len(c.clocks)), remedy)
		return
	}
	var off []string
	for _, k := range c.clocks {
		if k.ahead.Abs() > clockTolerance {
			off = append(off, fmt.Sprintf("%s (%s ours)", k.peer, offBy(k.ahead, "ahead of", "behind")))
		}
	}
	if len(off) > 0 {
		add(api.ProblemClock, fmt.Sprintf("clocks differ: %s", some(off[:min(len(off), namedPeers)], len(off))), "on each of them, "+remedy)
	}
}

func medianClock(clocks []clock) time.Duration {
	sorted := slices.SortedFunc(slices.Values(clocks), func(a, b clock) int { return cmp.Compare(a.ahead, b.ahead) })
	return sorted[len(sorted)/2].ahead
}

func offBy(d time.Duration, ahead, behind string) string {
	if d < 0 {
		return fmt.Sprintf("%v %s", d.Abs().Round(100*time.Millisecond), behind)
	}
	return fmt.Sprintf("%v %s", d.Round(100*time.Millisecond), ahead)
}
