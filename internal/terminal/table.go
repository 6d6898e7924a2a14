package terminal

import (
	"io"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// A Table aligns its rows' cells in columns.
type Table struct {
	Colour bool // use styles
	Width  int  // of lines that are in no column, in characters; 0: without bounds

	rows []row
}

type row struct {
	cells  []Cell
	free   bool // a line of its own, in no column
	indent string
}

// Cell is one cell of a Table.
type Cell struct {
	Text  string
	Style Style
	Right bool // aligned to the right, as numbers are
}

// Text is a plain cell.
func Text(s string) Cell { return Cell{Text: s} }

// Number is a cell aligned to the right.
func Number(s string) Cell { return Cell{Text: s, Right: true} }

// Row adds a row. An empty cell is shown as a dash, unless it is the last: it would be hard to see between others.
func (t *Table) Row(cells ...Cell) {
	for i := range cells {
		cells[i].Text = Printable(cells[i].Text)
		if cells[i].Text == "" && i < len(cells)-1 {
			cells[i].Text = "-"
		}
	}
	t.rows = append(t.rows, row{cells: cells})
}

// Line adds text that is not part of the columns, broken into lines that all begin with indent.
func (t *Table) Line(indent string, style Style, text string) {
	for _, line := range wrap(Printable(text), t.Width-len(indent)) {
		t.rows = append(t.rows, row{cells: []Cell{{Text: line, Style: style}}, free: true, indent: indent})
	}
}

// wrap breaks text at spaces into lines of at most width characters, where that can be.
func wrap(text string, width int) []string {
	if width <= 0 {
		return []string{text}
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case runewidth.StringWidth(line)+1+runewidth.StringWidth(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

// gap is between two columns, in characters.
const gap = 2

// WriteTo writes the table.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	widths := t.widths()
	for _, r := range t.rows {
		t.write(&b, r, widths)
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (t *Table) write(b *strings.Builder, r row, widths []int) {
	pad := 0 // what the cell before leaves to its right
	for i, c := range r.cells {
		text, width := c.Text, runewidth.StringWidth(c.Text)
		if t.Colour {
			text = c.Style.paint(text)
		}
		if r.free {
			b.WriteString(r.indent + text)
			break
		}
		rest := widths[i] - width
		if c.Right {
			pad, rest = pad+rest, 0
		}
		if text != "" {
			b.WriteString(strings.Repeat(" ", pad))
			b.WriteString(text)
			pad = 0
		}
		pad += rest + gap
	}
	b.WriteByte('\n')
}

// widths are those of the columns.
func (t *Table) widths() (widths []int) {
	for _, r := range t.rows {
		if r.free {
			continue
		}
		for i, c := range r.cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(c.Text))
		}
	}
	return widths
}

// Printable replaces each character of s that is no graphic one or space.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
