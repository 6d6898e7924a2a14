package terminal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// noWrap and doWrap say what becomes of a line that is too long: it is cut, or goes on in the next (DECAWM).
// home goes to the upper left, clearEnd clears from there, clearRight to the end of the line: ECMA-48's CUP, ED and EL.
const (
	noWrap     = "\x1b[?7l"
	doWrap     = "\x1b[?7h"
	home       = "\x1b[H"
	clearEnd   = "\x1b[J"
	clearRight = "\x1b[K"
)

// Watch writes what draw does, again each interval until ctx ends, and returns its error. On a terminal each picture takes the
// place of the one before, cut to the terminal's height; elsewhere a blank line parts them. The first error of draw ends it; a
// later one is shown, as what is watched may come back.
func Watch(ctx context.Context, w io.Writer, interval time.Duration, draw func(io.Writer) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	live := IsTerminal(w)
	if live {
		fmt.Fprint(w, noWrap+home+clearEnd)
		defer fmt.Fprint(w, doWrap)
	}
	for first := true; ; first = false {
		var picture bytes.Buffer
		if err := draw(&picture); err != nil {
			if first || ctx.Err() != nil {
				return err
			}
			picture.Reset()
			fmt.Fprintln(&picture, Printable(err.Error()))
		}
		out := picture.String()
		switch {
		case live:
			_, lines := size(w)
			out = home + strings.ReplaceAll(cutToHeight(out, lines), "\n", clearRight+"\n") + clearEnd
		case !first:
			out = "\n" + out
		}
		if _, err := io.WriteString(w, out); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// cutToHeight leaves the lines that fit, the last of which says how many do not.
func cutToHeight(text string, lines int) string {
	all := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	if lines < 3 || len(all) < lines {
		return text
	}
	shown := lines - 2
	return strings.Join(all[:shown], "") + fmt.Sprintf("… %d more lines\n", len(all)-shown)
}
