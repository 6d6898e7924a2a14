package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"twill/bench/load"
	"twill/bench/overlay"
	"twill/bench/report"
	"twill/internal/lab"
)

func TestMain(m *testing.M) {
	if err := load.Check(); err != nil {
		os.Stderr.WriteString("FAIL: " + err.Error() + "\n")
		os.Exit(1)
	}
	lab.Main(m)
}

// TestQuickRun measures for a moment, on both kinds of link, what needs nothing
// but iperf3.
func TestQuickRun(t *testing.T) {
	dir := t.TempDir()
	twill := filepath.Join(dir, "twill")
	if out, err := exec.Command("go", "build", "-o", twill, "twill").CombinedOutput(); err != nil {
		t.Fatalf("build twill: %v\n%s", err, out)
	}
	o, err := parseOptions([]string{"--quick", "--contenders", "routes,vxlan,twill", "--tables=false",
		"--twill", twill, "--out", filepath.Join(dir, "results")})
	if err != nil {
		t.Fatal(err)
	}
	var out, progress strings.Builder
	if err := measure(t.Context(), o, &out, &progress); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s\n%s", progress.String(), out.String())
	result, err := report.Load(filepath.Join(o.out, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	checkResult(t, result)
	for _, topic := range report.Topics {
		if _, err := os.Stat(filepath.Join(o.out, string(topic)+".svg")); err != nil {
			t.Error(err)
		}
	}
}

// checkResult wants a plausible value wherever there must be one.
func checkResult(t *testing.T, r *report.Result) {
	for _, link := range []string{linkVeth, linkSegmenting} {
		for _, contender := range []string{"routes", "vxlan", "twill"} {
			for _, metric := range []string{"tcp_1", "udp_1400", "udp_1400_reached", "udp_64", "udp_64_reached", "rtt_p50", "rtt_p99", "cpu_machine"} {
				if v, found := r.Value(link, contender, metric); !found || v.Median <= 0 {
					t.Errorf("%s of %s on %s is %+v", metric, contender, link, v)
				}
			}
		}
		if v, _ := r.Value(link, "twill", "rss"); v.Median < 1 || v.Median > 1000 {
			t.Errorf("twill on %s uses %g MB", link, v.Median)
		}
		if v, _ := r.Value(link, "twill", "cpu_daemons"); v.Median <= 0 {
			t.Errorf("twill on %s uses %g s/GB", link, v.Median)
		}
	}
	for _, c := range r.Cells {
		for _, f := range c.Failures {
			t.Errorf("%s on %s: %s", c.Contender, c.Link, f)
		}
	}
}

func TestMissingContenderIsNoted(t *testing.T) {
	o, err := parseOptions([]string{"--contenders", "flannel", "--twill", "/nonexistent", "--tables=false"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := run(t.Context(), o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Contenders) != 1 || !strings.Contains(r.Contenders[0].Missing, "--flanneld") {
		t.Errorf("got %+v, want flannel to be missing for want of --flanneld", r.Contenders)
	}
}

func TestPick(t *testing.T) {
	all := overlay.All(overlay.Options{})
	for _, tt := range []struct {
		list string
		want []string
	}{
		{"routes", []string{"routes"}},
		{"twill,routes", []string{"routes", "twill"}}, // in the order of all
		{"all", names(all)},
	} {
		got, err := pick("contenders", tt.list, all)
		if err != nil || !slices.Equal(names(got), tt.want) {
			t.Errorf("%q: got %v %v, want %v", tt.list, names(got), err, tt.want)
		}
	}
	for _, bad := range []string{"", "twil", "twill,"} {
		if _, err := pick("contenders", bad, all); err == nil || !strings.Contains(err.Error(), "--contenders") {
			t.Errorf("%q: got error %v, want one that names the flag", bad, err)
		}
	}
}

func TestQuickYieldsToFlags(t *testing.T) {
	o, err := parseOptions([]string{"--quick", "--workloads", "rtt"})
	if err != nil {
		t.Fatal(err)
	}
	if o.rounds != 1 || !slices.Equal(names(o.workloads), []string{"rtt"}) {
		t.Errorf("got %d rounds of %v, want 1 of rtt", o.rounds, names(o.workloads))
	}
}

func TestBadOptions(t *testing.T) {
	for _, args := range [][]string{
		{"--rounds", "0"}, {"--seconds", "61"}, {"--links", "wifi"}, {"--workloads", "x"}, {"surplus"}, {"--markdown"},
	} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestTimeTables(t *testing.T) {
	for i, timing := range timeTables([]int{2, 100}) {
		if timing.Peers != []int{2, 100}[i] || timing.LookupNs <= 0 || timing.ChangeMs <= 0 {
			t.Errorf("got %+v", timing)
		}
	}
}
