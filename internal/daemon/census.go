package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"twill/internal/api"
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
	probed int      // peers that were ever asked, without those whose lease is gone or speaks a newer protocol
	away   []string // names of the first of those that do not answer
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
		if stats.Path.ProbesSent > 0 && state != api.StateVanished && state != api.StateIncompatible {
			c.probed++
		}
		switch {
		case state == api.StateUnreachable:
			if len(c.away) < namedPeers {
				c.away = append(c.away, name(p))
			}
		case stats.Path.Answers():
			c.clocks = append(c.clocks, clock{name(p), stats.Path.ClockAhead})
		}
	}
	if n := len(t.View.Skipped); n > 0 {
		c.states[api.StateIncompatible] += n
	}
	return c
}

// findings are those about peers.
func (c *census) findings(f *findings) {
	c.awayFindings(f)
	c.clockFindings(f)
}

// awayFindings is a problem of this host where half or more of its peers are away: fewer may well be at fault themselves, or
// switched off.
func (c *census) awayFindings(f *findings) {
	n := c.states[api.StateUnreachable]
	if n == 0 {
		return
	}
	found := fmt.Sprintf("peers without an answer: %s (%d of %d that are asked)", some(c.away, n), n, c.probed)
	const see = "`twill peers --state unreachable` says why of each"
	if 2*n >= c.probed {
		f.problem(api.ProblemPeersUnreachable, found, see+"; where it is so for most, look at this host first: its link, its public IP, its firewall")
		return
	}
	f.notice(api.ProblemPeersUnreachable, found, see+"; the lease of a host that is gone for good expires by itself, or sooner by `twill down --release-lease` there")
}

// some lists names, and says how many of all are not among them.
func some(names []string, all int) string {
	list := strings.Join(names, ", ")
	if more := all - len(names); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// clockFindings says whose clock is off. If it is so for most peers, and in the same direction, it is ours. If there are too few
// peers to tell whose it is, it may be.
func (c *census) clockFindings(f *findings) {
	if len(c.clocks) == 0 {
		return
	}
	const remedy = "let an NTP client (chrony, systemd-timesyncd) set the clock: certificates, logs and the age of the cache depend on it"
	median, add := medianClock(c.clocks), f.problem
	if len(c.clocks) >= clockQuorum {
		if median.Abs() > clockTolerance {
			add(api.ProblemClock, fmt.Sprintf("this host's clock is %s most of its %d peers'", offBy(-median, "ahead of", "behind"), len(c.clocks)), remedy)
			return
		}
		add = f.notice
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
