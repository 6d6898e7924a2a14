package load

import (
	"context"
	"fmt"
	"strconv"

	"twill/bench/report"
)

// udp sends datagrams as fast as the sender can and counts what arrives.
type udp struct {
	size    int // payload in bytes
	seconds int
}

func (u udp) Name() string { return fmt.Sprintf("udp-%d", u.size) }

func (u udp) key() string { return fmt.Sprintf("udp_%d", u.size) }

func (u udp) Metrics() []report.Metric {
	return []report.Metric{
		{Key: u.key(), Label: fmt.Sprintf("%d B, full blast", u.size), Unit: "kpps", Topic: report.Packets, Better: report.Higher},
	}
}

func (u udp) Measure(ctx context.Context, p Path) (report.Values, error) {
	r, err := runBulk(ctx, p, seconds(u.seconds),
		"--udp", "--bitrate", "0",
		"--length", strconv.Itoa(u.size),
		"--time", strconv.Itoa(u.seconds))
	if err != nil {
		return nil, err
	}
	got := r.End.Received
	return report.Values{u.key(): got.Bytes / float64(u.size) / got.Seconds / 1e3}, nil
}
