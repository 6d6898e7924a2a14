package terminal

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Style is how a text looks: the parameter of ECMA-48's SGR. The zero Style is plain.
type Style string

// The styles in use. Colours alone tell nothing: the word that has one says the same.
const (
	Plain  Style = ""
	Bold   Style = "1"
	Dim    Style = "2"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
)

func (s Style) paint(text string) string {
	if s == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// IsTerminal says whether w is one.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Coloured says whether to use colours on w: a terminal that has them, unless the user wants none (https://no-color.org).
func Coloured(w io.Writer) bool {
	return IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Width is the width of w in characters, 0 where it is no terminal.
func Width(w io.Writer) int {
	columns, _ := size(w)
	return columns
}

// size is that of w in characters and lines, 0 and 0 where it is not known.
func size(w io.Writer) (columns, lines int) {
	if f, ok := w.(*os.File); ok {
		if columns, lines, err := term.GetSize(int(f.Fd())); err == nil {
			return columns, lines
		}
	}
	return 0, 0
}
