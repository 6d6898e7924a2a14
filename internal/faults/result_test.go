package faults

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// result is what one fault did.
type result struct {
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

// table prints its heading before its first row.
var table struct {
	sync.Mutex
	begun bool
}

// print adds the result to the table on stdout, which `go test` shows when it
// runs this package alone.
func (r result) print() {
	table.Lock()
	defer table.Unlock()
	const format = "%-44s %8v %6v %13v %14v\n"
	if !table.begun {
		fmt.Fprintf(os.Stdout, format, "fault", "sent", "lost", "double owners", "time to truth")
		table.begun = true
	}
	fmt.Fprintf(os.Stdout, format, r.fault, r.sent, r.lost, len(r.fouls), fmt.Sprintf("%.1f s", r.truth.Seconds()))
}
