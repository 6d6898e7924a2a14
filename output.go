package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/urfave/cli/v2"
)

// show prints v as JSON where --json asks for it, else as the table that rows
// fills.
func show(c *cli.Context, v any, rows func(*table)) error {
	if c.Bool("json") {
		enc := json.NewEncoder(c.App.Writer)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	t := &table{w: tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)}
	rows(t)
	return t.w.Flush()
}

// table aligns its rows' cells in columns.
type table struct{ w *tabwriter.Writer }

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if cell == "" && i < len(cells)-1 {
			cell = "-" // an empty cell would be hard to see between others
		}
		cells[i] = strings.Map(printable, cell)
	}
	fmt.Fprintln(t.w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

// printable keeps what others wrote into etcd from steering the terminal.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

func number[T uint16 | uint64](n T) string { return fmt.Sprint(n) }
