package report

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// reference is the contender whose ratios to the others are shown.
const reference = "twill"

// WriteTable prints the result for people: for each link and topic the values,
// then the ratios, then what failed.
func (r *Result) WriteTable(w io.Writer) {
	fmt.Fprintf(w, "%s\n", r.Machine)
	fmt.Fprintf(w, "%d rounds of %d s a measurement, median (min..max), TCP congestion control %s\n",
		r.Options.Rounds, r.Options.Seconds, r.Options.Congestion)
	r.writeContenders(w)
	for _, link := range r.Links {
		for _, t := range Topics {
			r.writeTopic(w, link, t)
		}
		r.writeRatios(w, link)
	}
	r.writeTimings(w)
	r.writeFailures(w)
}

// writeContenders prints who took part, and why others did not.
func (r *Result) writeContenders(w io.Writer) {
	fmt.Fprintln(w)
	for _, c := range r.Contenders {
		if c.Missing != "" {
			fmt.Fprintf(w, "  %-12s  not measured: %s\n", c.Name, c.Missing)
			continue
		}
		fmt.Fprintf(w, "  %-12s  %s  %s\n", c.Name, c.Kind, c.Version)
	}
}

func (r *Result) writeTopic(w io.Writer, link string, t Topic) {
	metrics := r.topic(t)
	if len(metrics) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s, link %s\n", t.Title(), link)
	table := newTable(w)
	header := []string{""}
	for _, m := range metrics {
		header = append(header, strings.TrimSpace(fmt.Sprintf("%s, %s %s", m.Label, m.Unit, m.Better.arrow())))
	}
	row(table, header)
	for _, c := range r.measured(link) {
		cells := []string{c.Name}
		for _, m := range metrics {
			cells = append(cells, r.text(link, c.Name, m.Key))
		}
		row(table, cells)
	}
	table.Flush()
}

// text is a value with its spread.
func (r *Result) text(link, contender, metric string) string {
	s, found := r.Value(link, contender, metric)
	switch {
	case !found:
		return "-"
	case len(s.Rounds) == 1:
		return Round(s.Median)
	}
	return fmt.Sprintf("%s (%s..%s)", Round(s.Median), Round(s.Min), Round(s.Max))
}

// writeRatios prints how many times better than each other contender the
// reference is.
func (r *Result) writeRatios(w io.Writer, link string) {
	if r.Cell(link, reference) == nil {
		return
	}
	fmt.Fprintf(w, "\nTimes better that %s is, link %s\n", reference, link)
	table := newTable(w)
	others := []string{"than"}
	for _, c := range r.measured(link) {
		if c.Name != reference {
			others = append(others, c.Name)
		}
	}
	row(table, others)
	for _, m := range r.Metrics {
		if m.Better == Neither {
			continue
		}
		cells := []string{m.Label}
		for _, other := range others[1:] {
			if ratio, found := r.Ratio(link, m, reference, other); found {
				cells = append(cells, Round(ratio))
			} else {
				cells = append(cells, "-")
			}
		}
		row(table, cells)
	}
	table.Flush()
}

func (r *Result) writeTimings(w io.Writer) {
	if len(r.Tables) == 0 {
		return
	}
	fmt.Fprintf(w, "\nTable of peers\n")
	table := newTable(w)
	row(table, []string{"peers", "lookup, ns", "change, ms"})
	for _, l := range r.Tables {
		row(table, []string{fmt.Sprint(l.Peers), Round(l.LookupNs), Round(l.ChangeMs)})
	}
	table.Flush()
}

func (r *Result) writeFailures(w io.Writer) {
	fmt.Fprintln(w)
	for _, c := range r.Cells {
		for _, f := range c.Failures {
			fmt.Fprintf(w, "failed: %s on %s: %s\n", c.Contender, c.Link, f)
		}
	}
}

func newTable(w io.Writer) *tabwriter.Writer {
	const columnGap = 2
	return tabwriter.NewWriter(w, 0, 0, columnGap, ' ', tabwriter.AlignRight)
}

func row(table io.Writer, cells []string) {
	fmt.Fprintln(table, strings.Join(cells, "\t")+"\t")
}

// Round prints a value with the three digits that such a measurement has at
// most, and the whole of an integer part.
func Round(v float64) string {
	switch size := math.Abs(v); {
	case size >= 99.95 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case size >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case size >= 0.0995:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}
