package web

import (
	"fmt"
	"strings"
	"time"

	"twill/internal/api"
)

// unknown stands where there is no value.
const unknown = "–"

// scaled writes n with three digits and a prefix of the SI.
func scaled(n float64, unit string) string {
	prefixes := []string{"", "k", "M", "G", "T", "P", "E"}
	i := 0
	for n >= 999.5 && i < len(prefixes)-1 {
		n /= 1000
		i++
	}
	digits := 0
	if i > 0 && n < 99.95 {
		digits = 1
	}
	return fmt.Sprintf("%.*f %s%s", digits, n, prefixes[i], unit)
}

func size(n uint64) string { return scaled(float64(n), "B") }

// bitRate takes bytes a second; less than 0: not known.
func bitRate(bytes float64) string {
	if bytes < 0 {
		return unknown
	}
	return scaled(8*bytes, "bit/s")
}

// count groups the digits of a whole number.
func count(n any) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteString("\u202f") // narrow no-break space
		}
		b.WriteRune(d)
	}
	return b.String()
}

func percent(share *float64) string {
	if share == nil {
		return unknown
	}
	return fmt.Sprintf("%.3g %%", 100**share)
}

func rttText(rtt *api.RTT) string {
	if rtt == nil {
		return unknown
	}
	ms := 1000 * rtt.Smoothed
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := max(now.Sub(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}
