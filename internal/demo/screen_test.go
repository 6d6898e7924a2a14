package demo

import (
	"strings"
	"testing"
	"time"
)

func tellTo(live, color bool) string {
	var b strings.Builder
	s := newScreen(&b, live, color)
	s.doing("building")
	s.did("built", "a\nb\n", 1234*time.Millisecond)
	s.doing("breaking")
	s.failed("breaking")
	return b.String()
}

func TestScreenPlain(t *testing.T) {
	pad := strings.Repeat(" ", timeColumn-2-len("built")-len("1.2 s"))
	want := "✓ built" + pad + "1.2 s\n\n    a\n    b\n\n✗ breaking\n"
	if got := tellTo(false, false); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestScreenTerminal(t *testing.T) {
	got := tellTo(true, false)
	if !strings.Contains(got, "… building"+clearLine+"✓ built") {
		t.Errorf("the progress line is not replaced by its result: %q", got)
	}
	if strings.Contains(got, bold) {
		t.Errorf("colours although they are off: %q", got)
	}
	if got := tellTo(true, true); !strings.Contains(got, green+"✓"+plain) || !strings.Contains(got, red+"✗"+plain) {
		t.Errorf("no colours although they are on: %q", got)
	}
}

func TestBitRate(t *testing.T) {
	for rate, want := range map[float64]string{2.5e9: "2.50 Gbit/s", 1e9: "1.00 Gbit/s", 567.8e6: "568 Mbit/s"} {
		if got := bitRate(rate); got != want {
			t.Errorf("bitRate(%g) is %q, want %q", rate, got, want)
		}
	}
}

func TestRunRefusesHostCounts(t *testing.T) {
	for _, n := range []int{0, MinHosts - 1, MaxHosts + 1} {
		err := Run(t.Context(), Options{Hosts: n, Out: new(strings.Builder)})
		if err == nil || !strings.Contains(err.Error(), "want 2 to 16") {
			t.Errorf("%d hosts: got %v", n, err)
		}
	}
}
