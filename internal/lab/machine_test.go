package lab

import (
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const text = "cpu  100 20 30 9999 888 4 5 6 70 7\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
	got, err := parseStat(text)
	if want := 1650 * time.Millisecond; err != nil || got != want { // 165 ticks
		t.Errorf("got %s %v, want %s", got, err, want)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8", "cpu 1 2 x 4 5 6 7 8"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
