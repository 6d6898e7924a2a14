package terminal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// Columns are aligned whatever is in the cells: colours, wide and combining characters, what would steer the terminal.
func TestTable(t *testing.T) {
	for _, colour := range []bool{false, true} {
		table := Table{Colour: colour}
		table.Row(Text("NODE"), Text("STATE"), Number("RTT"), Text("LAST"))
		table.Row(Text("主机一"), Cell{Text: "up", Style: Green}, Number("0.42 ms"), Text("x"))
		table.Row(Text("e\u0301tage"), Cell{Text: "unreachable", Style: Red}, Number(""), Text(""))
		table.Line("", Red, "a line that is longer than all columns together, and in none of them")
		table.Row(Text("a\x1b[2J\n\tb"), Text("silent"), Number("12.3 ms"), Text("y"))
		var b bytes.Buffer
		if _, err := table.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		got := b.String()
		if colour {
			if strings.Count(got, "\x1b[") != 6 || !strings.Contains(got, "\x1b[32mup\x1b[0m  ") {
				t.Errorf("the colours are not as they should be: %q", got)
			}
			for _, s := range []Style{Red, Green} {
				got = strings.ReplaceAll(got, "\x1b["+string(s)+"m", "")
			}
			got = strings.ReplaceAll(got, "\x1b[0m", "")
		}
		const want = "NODE      STATE            RTT  LAST\n" +
			"主机一    up           0.42 ms  x\n" +
			"e\u0301tage     unreachable        -\n" +
			"a line that is longer than all columns together, and in none of them\n" +
			"a?[2J??b  silent       12.3 ms  y\n"
		if got != want {
			t.Errorf("colour %v: got\n%s", colour, got)
		}
	}
}

func TestLineIsBroken(t *testing.T) {
	table := Table{Width: 20}
	table.Line("  ", Plain, "is the host up, its daemon running, and UDP to port 8285 let through both ways?")
	table.Line("", Plain, "")
	var b bytes.Buffer
	_, _ = table.WriteTo(&b)
	const want = "  is the host up,\n  its daemon\n  running, and UDP\n  to port 8285 let\n  through both ways?\n\n"
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}

func TestUnits(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, tt := range []struct{ got, want string }{
		{Count(0), "0"}, {Count(9_999), "9999"}, {Count(12_345), "12.3 k"}, {Count(123_456), "123 k"}, {Count(18_446_744_073_709_551_615), "18.4 E"},
		{Bytes(0), "0 B"}, {Bytes(3_565_158), "3.4 MiB"},
		{Rate(0), "0"}, {Rate(0.05), "0.1"}, {Rate(0.5), "0.5"}, {Rate(7), "7"}, {Rate(850), "850"}, {Rate(94_123_456), "94.1 M"}, {Rate(1e9), "1.0 G"},
		{Ago(time.Time{}, now), "never"}, {Ago(now.Add(time.Hour), now), "0s"}, {Ago(now.Add(-59*time.Second), now), "59s"},
		{Span(time.Minute), "1m"}, {Span(3*time.Minute + 5*time.Second), "3m5s"}, {Span(130 * time.Minute), "2h10m"}, {Span(123 * time.Hour), "5d3h"},
		{Milliseconds(0.00042), "0.42 ms"}, {Milliseconds(0.0123), "12.3 ms"}, {Milliseconds(1.25), "1.2 s"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

// What is no terminal gets no colours, and pictures one after the other; what is watched may go and come back.
func TestWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var b bytes.Buffer
	drawn := 0
	err := Watch(ctx, &b, time.Millisecond, func(w io.Writer) error {
		switch drawn++; drawn {
		case 2:
			return errors.New("it is away")
		case 3:
			cancel()
		}
		_, err := io.WriteString(w, "picture\n")
		return err
	})
	if want := "picture\n\nit is away\n\npicture\n"; !errors.Is(err, context.Canceled) || b.String() != want {
		t.Errorf("got %q, %v; want %q", b.String(), err, want)
	}
	first := errors.New("it was never there")
	if err := Watch(t.Context(), io.Discard, time.Millisecond, func(io.Writer) error { return first }); !errors.Is(err, first) {
		t.Errorf("got %v, want the first error", err)
	}
	if Coloured(&b) || IsTerminal(&b) || Width(&b) != 0 {
		t.Error("a buffer is taken for a terminal")
	}
}

func TestCutToHeight(t *testing.T) {
	for _, tt := range []struct {
		text  string
		lines int
		want  string
	}{
		{"1\n2\n3\n", 0, "1\n2\n3\n"},
		{"1\n2\n3\n", 4, "1\n2\n3\n"},
		{"1\n2\n3\n4\n", 4, "1\n2\n… 2 more lines\n"},
	} {
		if got := cutToHeight(tt.text, tt.lines); got != tt.want {
			t.Errorf("%q in %d lines: %q, want %q", tt.text, tt.lines, got, tt.want)
		}
	}
}
