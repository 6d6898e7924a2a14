package faults

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// result is what one fault did.
type result struct {
	group                  string // the test's name
	fault                  string
	sent, lost, duplicated int                     // packets; tables of a crowd
	fouls                  map[netip.Prefix]string // subnets with two owners
	rounds                 int                     // in which owners were looked at
	truth                  time.Duration           // from the lift until every table was true
	limit                  time.Duration           // of truth
}

// check fails the test for what no fault may do.
func (r result) check(t *testing.T) {
	t.Helper()
	if r.sent == 0 || r.lost != 0 || r.duplicated != 0 {
		t.Errorf("%d packets sent, %d lost, %d duplicated; want none lost or duplicated of some", r.sent, r.lost, r.duplicated)
	}
	if r.rounds == 0 || len(r.fouls) != 0 {
		t.Errorf("subnets with two owners, seen in %d rounds: %v; want none in some", r.rounds, r.fouls)
	}
	if r.truth > r.limit {
		t.Errorf("the tables were true %v after the lift, want at most %v", r.truth, r.limit)
	}
}

// results are those of all tests so far, to be printed as one table.
var results struct {
	sync.Mutex
	rows []result
}

// keep adds r to the table.
func (r result) keep() {
	results.Lock()
	defer results.Unlock()
	results.rows = append(results.rows, r)
}

// printResults prints the table to stdout, which `go test` shows when it runs this
// package alone: the faults by test, in the order in which they happened.
func printResults() {
	results.Lock()
	defer results.Unlock()
	slices.SortStableFunc(results.rows, func(a, b result) int { return strings.Compare(a.group, b.group) })
	const format = "%-46s %8v %6v %13v %14v\n"
	group := ""
	for _, r := range results.rows {
		if r.group != group {
			group = r.group
			fmt.Printf("\n"+format, group, "sent", "lost", "double owners", "time to truth")
		}
		fmt.Printf(format, "  "+r.fault, r.sent, r.lost, len(r.fouls), fmt.Sprintf("%.1f s", r.truth.Seconds()))
	}
}
