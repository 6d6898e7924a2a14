package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if role, ok := childRole(); ok {
		os.Exit(runChild(role))
	}
	os.Exit(m.Run())
}

// small is a network that is made in a second or two.
var small = options{
	leases: 500, rounds: 1, nodes: 20, others: 30, rate: 50, steady: 10,
	churn: time.Second, rest: time.Second,
}

// A host that joins needs the three requests that it cannot do without: read all,
// grant a lease, write the key. Its table is complete then.
func TestJoinNeedsThreeRequests(t *testing.T) {
	r, err := measureJoin(t.Context(), small)
	if err != nil {
		t.Fatal(err) // also if the table is not complete
	}
	if got := r.Requests.String(); got != "LeaseGrant 1, Range 1, Txn 1" {
		t.Errorf("requests before a host forwards: %s", got)
	}
	if r.ChangeCPUMs <= 0 || r.Memory.HeapMB <= 0 {
		t.Errorf("nothing measured: %+v", r)
	}
}

func TestChangesReachEveryHost(t *testing.T) {
	r, err := measureWatch(t.Context(), small)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Churns) != 2 {
		t.Fatalf("%d rates were measured, want 2", len(r.Churns))
	}
	for i, c := range r.Churns {
		if want := []int{small.steady, small.rate}[i]; c.Changes != want || c.AllMs.Min <= 0 || c.AllMs.Max < c.EachMs.Median || c.NodeDeliveryUs <= 0 {
			t.Errorf("%d changes a second: result %+v", want, c)
		}
		if put := c.Cost.Requests["Put"]; put != c.Changes {
			t.Errorf("etcd counted %d writes of %d", put, c.Changes)
		}
	}
}

// The committed result is one of this program, and the documentation has its table.
func TestDocumentedResult(t *testing.T) {
	r, err := load(filepath.Join("..", "results", "scale.json"))
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	r.writeTable(&table)
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "scale.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), table.String()) {
		t.Errorf("docs/scale.md does not have this table of bench/results/scale.json:\n%s", &table)
	}
}

func TestOptions(t *testing.T) {
	for _, args := range [][]string{
		{"--leases", "0"}, {"--nodes", "100000"}, {"--churn", "1h"}, {"more"}, {"--nonsense"},
	} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
	if _, err := parseOptions(nil); err != nil {
		t.Error(err)
	}
}
