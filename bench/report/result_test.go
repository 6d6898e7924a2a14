package report

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// sample is a result with two contenders on one link; one is missing.
func sample() *Result {
	r := &Result{
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Machine: Machine{CPU: "A & B <C>", Cores: 2, Kernel: "6.18"},
		Options: Options{Rounds: 3, Seconds: 1, Congestion: "cubic"},
		Contenders: []Contender{
			{Name: "routes", Kind: "kernel, no overlay"},
			{Name: "twill", Kind: "userspace", Version: "1.0"},
			{Name: "fastd", Kind: "userspace", Missing: "no program fastd"},
		},
		Metrics: []Metric{
			{Key: "tcp", Label: "1 stream", Unit: "Gb/s", Topic: Throughput, Better: Higher},
			{Key: "again", Label: "sent again", Unit: "1/GB", Topic: Throughput},
			{Key: "p50", Label: "p50", Unit: "µs", Topic: Latency, Better: Lower},
		},
		Links:  []string{"veth"},
		Tables: []TableTiming{{Peers: 2, LookupNs: 8, ChangeMs: 0.001}},
	}
	for i := range 3 {
		r.Add("veth", "routes", Values{"tcp": 20 + float64(i), "p50": 10})
		r.Add("veth", "twill", Values{"tcp": 5 + float64(i), "again": 7, "p50": 40})
	}
	r.AddFailure("veth", "twill", errors.New("round 2: rtt: all lost"))
	return r
}

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "result.json")
	want := sample()
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRatio(t *testing.T) {
	r := sample()
	for _, tt := range []struct {
		metric int
		a, b   string
		want   float64
		found  bool
	}{
		{0, "twill", "routes", 6.0 / 21, true},
		{0, "routes", "twill", 21.0 / 6, true},
		{2, "twill", "routes", 10.0 / 40, true}, // less is better
		{1, "twill", "twill", 0, false},         // neither is
		{0, "twill", "fastd", 0, false},         // not measured
	} {
		got, found := r.Ratio("veth", r.Metrics[tt.metric], tt.a, tt.b)
		if got != tt.want || found != tt.found {
			t.Errorf("%s: %s to %s is %g %t, want %g %t", r.Metrics[tt.metric].Key, tt.a, tt.b, got, found, tt.want, tt.found)
		}
	}
}

func TestWriteTable(t *testing.T) {
	var out strings.Builder
	sample().WriteTable(&out)
	for _, want := range []string{
		"1 stream, Gb/s ↑",
		"21.0 (20.0..22.0)",
		"6.00 (5.00..7.00)",
		"0.29", // ratio of the medians
		"not measured: no program fastd",
		"failed: twill on veth: round 2: rtt: all lost",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1234.5: "1234", 99.96: "100", 99.94: "99.9", 9.994: "9.99", 9.996: "10.0", 0.12345: "0.12", 0.012345: "0.0123",
	} {
		if got := Round(v); got != want {
			t.Errorf("Round(%g) = %s, want %s", v, got, want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	r := &Result{
		Links: []string{"veth", "segmenting"},
		Metrics: []Metric{
			{Key: "tcp_1", Unit: "Gb/s", Better: Higher},
			{Key: "rtt_p50", Unit: "µs", Better: Lower},
		},
	}
	r.Add("veth", "twill", Values{"tcp_1": 6, "rtt_p50": 200})
	r.Add("veth", "flannel", Values{"tcp_1": 0.5, "rtt_p50": 100})
	r.Add("segmenting", "twill", Values{"tcp_1": 3})
	const want = `| veth link | twill | × flannel | × fastd |
|---|---|---|---|
| TCP, 1 stream | 6.00 Gb/s | 12.0 | |
| round trip alone, median | 200 µs | 0.50 | |

| segmenting link | twill | × flannel | × fastd |
|---|---|---|---|
| TCP, 1 stream | 3.00 Gb/s | | |
`
	if got := r.Markdown("flannel", "fastd"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
