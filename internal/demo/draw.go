package demo

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"twill/internal/lab"
)

// topology draws the switch and what hangs on it, a line a host.
func topology(l *lab.Lab) string {
	var b strings.Builder
	fmt.Fprintf(&b, "switch %s, etcd on %s\n", l.Underlay(), l.EtcdEndpoint())
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	for i, h := range l.Hosts {
		branch := "├─"
		if i == len(l.Hosts)-1 {
			branch = "└─"
		}
		fmt.Fprintf(w, "%s %s %s\t── twill0 ── docker0 %s\t── pod %s\n", branch, h.Name, h.Addr(), h.Gateway(), h.Pods[0].Addr())
	}
	w.Flush()
	return b.String()
}

// matrix shows round trip times in milliseconds, from the host of the line to
// the host of the column.
func matrix(l *lab.Lab, rtt [][]time.Duration) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "ms\t")
	for _, h := range l.Hosts {
		fmt.Fprintf(w, "%s\t", h.Name)
	}
	fmt.Fprintln(w)
	for i, from := range l.Hosts {
		fmt.Fprintf(w, "%s\t", from.Name)
		for j := range l.Hosts {
			if i == j {
				fmt.Fprint(w, "-\t")
				continue
			}
			fmt.Fprintf(w, "%.2f\t", float64(rtt[i][j].Microseconds())/1000)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return b.String()
}
