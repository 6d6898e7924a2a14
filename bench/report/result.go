// Package report holds what the benchmark measured and shows it.
//
// The flow: the run makes a [Result] and adds the values of each round with
// [Result.Add]; [Result.Save] writes it as JSON. [Result.WriteTable] (table.go)
// prints it and [Result.Charts] (chart.go) draws it, both from the result alone,
// so that an old file can be shown again.
//
// Units are those of the metrics; a rate counts payload, and kilo, mega and giga
// are powers of ten. RSS is in MB of 10^6 bytes.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
)

// Result is one run of the benchmark.
type Result struct {
	Started    time.Time     `json:"started"`
	Duration   float64       `json:"duration_s"`
	Machine    Machine       `json:"machine"`
	Options    Options       `json:"options"`
	Contenders []Contender   `json:"contenders"`
	Metrics    []Metric      `json:"metrics"`
	Links      []string      `json:"links"`
	Cells      []*Cell       `json:"results"`
	Tables     []TableTiming `json:"tables,omitempty"`
}

// Options are the choices that the values depend on.
type Options struct {
	Rounds     int    `json:"rounds"`
	Seconds    int    `json:"seconds"`
	Congestion string `json:"congestion_control"`
}

// Contender is a way to join hosts, as it was found on the machine.
type Contender struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Version string `json:"version,omitempty"`
	// Missing says why it could not take part.
	Missing string `json:"missing,omitempty"`
}

// Cell holds the values of one contender on one kind of link.
type Cell struct {
	Link      string             `json:"link"`
	Contender string             `json:"contender"`
	Values    map[string]Summary `json:"values"`
	// Failures are the measurements that gave no value, and why.
	Failures []string `json:"failures,omitempty"`
}

// TableTiming is what a table of so many peers costs: one lookup in it, and until
// a change of one peer is in force while all processors look up addresses.
type TableTiming struct {
	Peers    int     `json:"peers"`
	LookupNs float64 `json:"lookup_ns"`
	ChangeMs float64 `json:"change_ms"`
}

// Add adds a round's values.
func (r *Result) Add(link, contender string, values Values) {
	c := r.cell(link, contender)
	for key, v := range values {
		c.Values[key] = Summarize(append(c.Values[key].Rounds, v))
	}
}

// AddFailure notes that a measurement failed.
func (r *Result) AddFailure(link, contender string, err error) {
	c := r.cell(link, contender)
	c.Failures = append(c.Failures, err.Error())
}

// cell finds or makes a cell.
func (r *Result) cell(link, contender string) *Cell {
	if c := r.Cell(link, contender); c != nil {
		return c
	}
	c := &Cell{Link: link, Contender: contender, Values: map[string]Summary{}}
	r.Cells = append(r.Cells, c)
	return c
}

// Cell is the cell of a contender on a link, nil if nothing was measured.
func (r *Result) Cell(link, contender string) *Cell {
	i := slices.IndexFunc(r.Cells, func(c *Cell) bool { return c.Link == link && c.Contender == contender })
	if i < 0 {
		return nil
	}
	return r.Cells[i]
}

// Value is the summary of a metric, and false if there is none.
func (r *Result) Value(link, contender, metric string) (Summary, bool) {
	c := r.Cell(link, contender)
	if c == nil {
		return Summary{}, false
	}
	s, found := c.Values[metric]
	return s, found
}

// Ratio is how many times better a is than b by the medians: 2 is twice the
// throughput or half the latency. It is false where there is no such number.
func (r *Result) Ratio(link string, m Metric, a, b string) (float64, bool) {
	x, foundX := r.Value(link, a, m.Key)
	y, foundY := r.Value(link, b, m.Key)
	if m.Better == Lower {
		x, y = y, x
	}
	if !foundX || !foundY || m.Better == Neither || y.Median == 0 {
		return 0, false
	}
	return x.Median / y.Median, true
}

// topic returns the metrics of a topic.
func (r *Result) topic(t Topic) (list []Metric) {
	for _, m := range r.Metrics {
		if m.Topic == t {
			list = append(list, m)
		}
	}
	return list
}

// measured are the contenders that took part on a link.
func (r *Result) measured(link string) (list []Contender) {
	for _, c := range r.Contenders {
		if r.Cell(link, c.Name) != nil {
			list = append(list, c)
		}
	}
	return list
}

// Save writes the result as JSON.
func (r *Result) Save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Load reads what Save wrote.
func Load(path string) (*Result, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Result{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	return r, nil
}
