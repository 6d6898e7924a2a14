package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"twill/internal/lab"
)

// timeColumn is where a step's time ends, in characters.
const timeColumn = 72

// screen prints the story: plain lines, and on a terminal a line that says what
// goes on until its result takes its place.
type screen struct {
	w     io.Writer
	live  bool // w is a terminal
	color bool

	blank bool // the last line printed is empty
}

func newScreen(w io.Writer, live, color bool) *screen {
	return &screen{w: w, live: live, color: color}
}

// The escape sequences of ECMA-48 that the screen uses.
const (
	bold      = "\x1b[1m"
	dim       = "\x1b[2m"
	red       = "\x1b[31m"
	green     = "\x1b[32m"
	plain     = "\x1b[0m"
	clearLine = "\r\x1b[K"
)

func (s *screen) paint(style, text string) string {
	if !s.color {
		return text
	}
	return style + text + plain
}

func (s *screen) title(text string) {
	fmt.Fprintf(s.w, "%s\n\n", s.paint(bold, text))
}

// doing shows what goes on; on a terminal only.
func (s *screen) doing(text string) {
	if s.live {
		fmt.Fprintf(s.w, "%s… %s", clearLine, text)
	}
}

// clear removes what doing showed.
func (s *screen) clear() {
	if s.live {
		fmt.Fprint(s.w, clearLine)
	}
}

// did shows a step's result.
func (s *screen) did(text, details string, took time.Duration) {
	s.clear()
	seconds := fmt.Sprintf("%.1f s", took.Seconds())
	gap := max(1, timeColumn-2-utf8.RuneCountInString(text)-len(seconds))
	fmt.Fprintf(s.w, "%s %s%s%s\n", s.paint(green, "✓"), s.paint(bold, text), strings.Repeat(" ", gap), s.paint(dim, seconds))
	if s.blank = details != ""; s.blank {
		fmt.Fprintf(s.w, "\n%s\n", indent(details))
	}
}

// failed shows which step did not work; the reason is the caller's to print.
func (s *screen) failed(doing string) {
	s.clear()
	fmt.Fprintf(s.w, "%s %s\n", s.paint(red, "✗"), s.paint(bold, doing))
}

func (s *screen) summary(text string) {
	if !s.blank {
		fmt.Fprintln(s.w)
	}
	fmt.Fprintln(s.w, s.paint(bold, text))
}

// prompt is the line in front of a command's output.
func (s *screen) prompt(host, command string) string {
	return s.paint(dim, host+"# "+command) + "\n"
}

// keepText says how to look around in hosts that stay.
func (s *screen) keepText(l *lab.Lab) {
	fmt.Fprintf(s.w, "\nThe hosts keep running. From another terminal:\n\n")
	for _, h := range l.Hosts {
		for _, n := range append([]*lab.Namespace{h.Namespace}, h.Pods...) {
			fmt.Fprintf(s.w, "    %-12s %s\n", n.Name, n.EnterCommand())
		}
	}
	h := l.Hosts[0]
	fmt.Fprintf(s.w, "\nIn there, for example: twill peers --run-dir %s\n\nCtrl-C ends it and removes everything.\n", h.RunDir())
}

// indent moves lines to the right, below the text of a step.
func indent(lines string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(lines, "\n")) {
		b.WriteString("    " + line)
	}
	b.WriteString("\n")
	return b.String()
}

// bitRate is a rate with its unit.
func bitRate(bitsPerSecond float64) string {
	if bitsPerSecond >= 1e9 {
		return fmt.Sprintf("%.2f Gbit/s", bitsPerSecond/1e9)
	}
	return fmt.Sprintf("%.0f Mbit/s", bitsPerSecond/1e6)
}
