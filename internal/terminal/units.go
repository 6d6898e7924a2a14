package terminal

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
)

// Bytes is n in binary units: 3.4 MiB.
func Bytes(n uint64) string { return humanize.IBytes(n) }

// Count is n in decimal units: 12.3 k. Up to 9,999 it is exact.
func Count(n uint64) string {
	if n < 10_000 {
		return fmt.Sprint(n)
	}
	return Rate(float64(n))
}

// Rate is n in decimal units, with at most three digits that count: 0, 0.5, 850, 12.3 M.
func Rate(n float64) string {
	value, prefix := humanize.ComputeSI(n)
	if n < 1 { // a fraction: milli- and micropackets help nobody
		value, prefix = n, ""
	}
	digits := 0
	if value < 100 && (prefix != "" || value < 10 && value != float64(int(value))) {
		digits = 1
	}
	text := fmt.Sprintf("%.*f", digits, value)
	if prefix == "" {
		return text
	}
	return text + " " + prefix
}

// Ago is how long before now t was, to the second: 12s, 3m5s, 2h10m, 5d3h; never for the zero Time.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return Span(now.Sub(t))
}

// Span is d in its two largest units.
func Span(d time.Duration) string {
	d = max(0, d)
	const day = 24 * time.Hour
	two := func(large, small time.Duration, names string) string {
		text := fmt.Sprintf("%d%c", d/large, names[0])
		if rest := d % large / small; rest > 0 {
			text += fmt.Sprintf("%d%c", rest, names[1])
		}
		return text
	}
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return two(time.Minute, time.Second, "ms")
	case d < day:
		return two(time.Hour, time.Minute, "hm")
	}
	return two(day, time.Hour, "dh")
}

// Milliseconds is a time in seconds as a round trip is told: 0.42 ms, 12.3 ms, 1.2 s.
func Milliseconds(seconds float64) string {
	ms := 1000 * seconds
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.1f s", seconds)
}
