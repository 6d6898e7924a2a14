package report

import (
	"fmt"
	"strings"
)

// shown are the metrics of the Markdown tables, with the labels that they have there.
var shown = []struct{ key, label string }{
	{"tcp_1", "TCP, 1 stream"},
	{"tcp_4", "TCP, 4 streams"},
	{"udp_1400", "UDP 1400 B, full blast, read"},
	{"udp_1400_reached", "UDP 1400 B, full blast, reached the pod"},
	{"udp_64", "UDP 64 B, full blast, read"},
	{"udp_64_reached", "UDP 64 B, full blast, reached the pod"},
	{"clean_1400", "UDP 1400 B, loss < 0.1 %"},
	{"clean_64", "UDP 64 B, loss < 0.1 %"},
	{"cpu_daemons", "daemons' CPU time per byte, TCP"},
	{"rtt_p50", "round trip alone, median"},
	{"rtt_p99", "round trip alone, 99th percentile"},
	{"rtt_loaded_p99", "round trip under bulk TCP, 99th percentile"},
	{"rss_peak", "peak memory of a daemon"},
}

// Markdown returns a table for each link: the values of the reference, and how many times better than each of the others it is.
func (r *Result) Markdown(others ...string) string {
	var b strings.Builder
	for _, link := range r.Links {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "| %s link | %s | × %s |\n", link, reference, strings.Join(others, " | × "))
		b.WriteString(strings.Repeat("|---", 2+len(others)) + "|\n")
		for _, s := range shown {
			r.markdownRow(&b, link, s.key, s.label, others)
		}
	}
	return b.String()
}

// markdownRow writes the row of a metric, if the reference has a value.
func (r *Result) markdownRow(b *strings.Builder, link, key, label string, others []string) {
	value, found := r.Value(link, reference, key)
	if !found {
		return
	}
	m := r.metric(key)
	fmt.Fprintf(b, "| %s | %s %s |", label, Round(value.Median), m.Unit)
	for _, other := range others {
		if ratio, found := r.Ratio(link, m, reference, other); found {
			fmt.Fprintf(b, " %s |", Round(ratio))
		} else {
			b.WriteString(" |")
		}
	}
	b.WriteByte('\n')
}

// metric returns the metric with a key, the zero Metric if there is none.
func (r *Result) metric(key string) Metric {
	for _, m := range r.Metrics {
		if m.Key == key {
			return m
		}
	}
	return Metric{}
}
