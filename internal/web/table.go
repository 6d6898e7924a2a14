package web

import (
	"cmp"
	"net/url"
	"slices"

	"twill/internal/api"
)

// maxRows is how many peers the table shows unless it is asked for all.
const maxRows = 500

// table is the table of the peers, in the order that the request asks for.
type table struct {
	Columns []column
	Rows    []row
	Total   int
	AllLink string // where all rows are; "": here
}

// column is a column's head: a link to the table in its order, and whether that is the order now.
type column struct {
	Key, Title, Class string
	Link              string
	Sorted            string // "ascending", "descending" or ""
	compare           func(a, b row) int
}

var columns = []column{
	{Key: "node", Title: "Node", compare: func(a, b row) int { return cmp.Compare(a.Name(), b.Name()) }},
	{Key: "state", Title: "State", compare: byState},
	{Key: "rtt", Title: "RTT", Class: "number", compare: func(a, b row) int { return cmp.Compare(roundTrip(a), roundTrip(b)) }},
	{Key: "loss", Title: "Loss", Class: "number", compare: func(a, b row) int { return cmp.Compare(orLess(a.Loss), orLess(b.Loss)) }},
	{Key: "tx", Title: "Sent", Class: "number", compare: func(a, b row) int {
		return cmp.Or(cmp.Compare(a.TxRate, b.TxRate), cmp.Compare(a.TxBytes, b.TxBytes))
	}},
	{Key: "rx", Title: "Received", Class: "number", compare: func(a, b row) int {
		return cmp.Or(cmp.Compare(a.RxRate, b.RxRate), cmp.Compare(a.RxBytes, b.RxBytes))
	}},
	{Key: "mtu", Title: "Path MTU", Class: "number", compare: func(a, b row) int { return cmp.Compare(a.PathMTU, b.PathMTU) }},
	{Key: "drops", Title: "Drops", Class: "number", compare: func(a, b row) int { return cmp.Compare(a.Drops, b.Drops) }},
	{Key: "seen", Title: "Last heard", Class: "number", compare: func(a, b row) int { return b.LastSeen.Compare(a.LastSeen) }},
}

// byState puts what needs a look first.
func byState(a, b row) int { return cmp.Compare(severity(b.State), severity(a.State)) }

func severity(s api.PeerState) int {
	switch s {
	case api.StateUp:
		return 0
	case api.StateSilent:
		return 1
	case api.StateVanished:
		return 2
	}
	return 3 // unreachable, and states to come
}

func roundTrip(r row) float64 {
	if r.RTT == nil {
		return -1
	}
	return r.RTT.Smoothed
}

func orLess(share *float64) float64 {
	if share == nil {
		return -1
	}
	return *share
}

// newTable orders rows by ?sort= and ?desc=1; ?all=1 shows more than maxRows.
func newTable(rows []row, query url.Values) table {
	t := table{Columns: slices.Clone(columns), Total: len(rows)}
	key, desc, all := query.Get("sort"), query.Get("desc") == "1", query.Get("all") == "1"
	order := byState
	for i := range t.Columns {
		c := &t.Columns[i]
		next := false
		if c.Key == key {
			order, c.Sorted, next = c.compare, "ascending", !desc
			if desc {
				c.Sorted = "descending"
			}
		}
		c.Link = link(c.Key, next, all)
	}
	t.Rows = slices.SortedStableFunc(slices.Values(rows), func(a, b row) int { // else by subnet, as they come
		if desc {
			a, b = b, a
		}
		return order(a, b)
	})
	if len(t.Rows) > maxRows && !all {
		t.Rows, t.AllLink = t.Rows[:maxRows], link(key, desc, true)
	}
	return t
}

func link(key string, desc, all bool) string {
	query := url.Values{}
	if slices.ContainsFunc(columns, func(c column) bool { return c.Key == key }) {
		query.Set("sort", key)
	}
	if desc {
		query.Set("desc", "1")
	}
	if all {
		query.Set("all", "1")
	}
	return "?" + query.Encode()
}
