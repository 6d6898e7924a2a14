package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go.etcd.io/etcd/api/v3/version"

	"twill/bench/report"
)

// result is one run.
type result struct {
	Started time.Time      `json:"started"`
	Machine report.Machine `json:"machine"`
	Etcd    string         `json:"etcd"`
	Join    joinResult     `json:"join"`
	Watch   watchResult    `json:"watch"`
}

// spread is how values lie.
type spread struct {
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(values []float64) spread {
	slices.Sort(values)
	return spread{
		Median: report.Quantile(values, 0.5),
		P99:    report.Quantile(values, 0.99),
		Min:    values[0],
		Max:    values[len(values)-1],
	}
}

func newResult(o options) *result {
	return &result{Started: time.Now().UTC().Truncate(time.Second), Machine: report.ThisMachine(), Etcd: version.Version}
}

func load(path string) (*result, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r result
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &r, nil
}

func (r *result) save(path string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

// writeTable prints the result as the table of docs/scale.md.
func (r *result) writeTable(w io.Writer) {
	fmt.Fprintf(w, "%s; etcd %s\n\n", r.Machine, r.Etcd)
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	defer t.Flush()
	row := func(cells ...string) { fmt.Fprintln(t, "| "+strings.Join(cells, "\t| ")+"\t|") }
	j, n := r.Join, r.Watch
	row(fmt.Sprintf("a host joins a network of %d", j.Leases), "measured")
	row("---", "---")
	row("requests to etcd before it forwards", fmt.Sprintf("%d (%s)", j.Requests.total(), j.Requests))
	row("time to the full table, median of the rounds", fmt.Sprintf("%.0f ms", j.TableMs.Median))
	row("reading the same keys and nothing else", fmt.Sprintf("%.0f ms", j.RangeMs.Median))
	row("live heap, beside an empty network", fmt.Sprintf("%.1f MB, %.1f MB", j.Memory.HeapMB, j.EmptyMemory.HeapMB))
	row("RSS, beside an empty network", fmt.Sprintf("%.1f MB, %.1f MB", j.Memory.RSSMB, j.EmptyMemory.RSSMB))
	row("highest RSS, beside an empty network", fmt.Sprintf("%.1f MB, %.1f MB", j.Memory.PeakRSSMB, j.EmptyMemory.PeakRSSMB))
	row("its CPU time for one change of a lease", fmt.Sprintf("%.2f ms", j.ChangeCPUMs))
	row(fmt.Sprintf("**%d hosts watch %d leases**", n.Nodes, n.Leases), "")
	row("all have joined and have the full table after", fmt.Sprintf("%.1f s", n.JoinS))
	row("requests per host and minute at rest", fmt.Sprintf("%.2f (%s in %.0f s)", n.Rest.PerNodeMinute, n.Rest.Requests, n.Rest.Seconds))
	row("CPU at rest: etcd, all hosts, all else", n.Rest.cpu())
	for _, c := range n.Churns {
		row(fmt.Sprintf("**%d changes a second**, %d deliveries a second", c.Rate, c.Rate*n.Nodes), "")
		row("changes written a second", fmt.Sprintf("%.1f", c.ChangesPS))
		row("a change is in a host's table after, p50 / p99 / max", c.EachMs.milliseconds())
		row("a change is in every host's table after, p50 / p99 / max", c.AllMs.milliseconds())
		row("tables made by a host for a change", fmt.Sprintf("%.2f", c.TablesPer))
		row("CPU until the last host has the last change: etcd, all hosts, all else", c.Cost.cpu())
		row("CPU time of a delivery: etcd, host", fmt.Sprintf("%.1f µs, %.1f µs", c.EtcdDeliveryUs, c.NodeDeliveryUs))
		row("requests meanwhile", c.Cost.Requests.String())
	}
	row("**memory** (RSS): etcd, each host", fmt.Sprintf("%.0f MB, %.2f MB", n.EtcdMB, n.NodeMB))
}

func (s spread) milliseconds() string {
	return fmt.Sprintf("%.0f / %.0f / %.0f ms", s.Median, s.P99, s.Max)
}

func (c cost) cpu() string {
	return fmt.Sprintf("%.0f %%, %.0f %%, %.0f %% of a core", 100*c.EtcdCPU, 100*c.NodesCPU, 100*c.OthersCPU)
}

func (r requests) String() string {
	var list []string
	for _, method := range slices.Sorted(maps.Keys(r)) {
		list = append(list, fmt.Sprintf("%s %d", method, r[method]))
	}
	return strings.Join(list, ", ")
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func megabytes(bytes int64) float64        { return float64(bytes) / 1e6 }
