package load

import (
	"context"
	"fmt"
	"strconv"

	"twill/bench/report"
)

// udp sends datagrams as fast as the sender can and counts what arrives: at the
// pod, and at the program there, which has to share the processor with all that
// brings them and loses what its socket's buffer does not hold meanwhile.
type udp struct {
	size    int // payload in bytes
	seconds int
}

func (u udp) Name() string { return fmt.Sprintf("udp-%d", u.size) }

func (u udp) key() string { return fmt.Sprintf("udp_%d", u.size) }

// reachedKey is that of the datagrams that reach the pod.
func (u udp) reachedKey() string { return u.key() + "_reached" }

func (u udp) Metrics() []report.Metric {
	return []report.Metric{
		{Key: u.key(), Label: fmt.Sprintf("%d B, read", u.size), Unit: "kpps", Topic: report.Packets, Better: report.Higher},
		{Key: u.reachedKey(), Label: fmt.Sprintf("%d B, at the pod", u.size), Unit: "kpps", Topic: report.Packets, Better: report.Higher},
	}
}

func (u udp) Measure(ctx context.Context, p Path) (report.Values, error) {
	before, err := datagramsAt(p.To)
	if err != nil {
		return nil, err
	}
	r, err := runBulk(ctx, p, seconds(u.seconds),
		"--udp", "--bitrate", "0",
		"--length", strconv.Itoa(u.size),
		"--time", strconv.Itoa(u.seconds))
	if err != nil {
		return nil, err
	}
	after, err := datagramsAt(p.To)
	if err != nil {
		return nil, err
	}
	got := r.End.Received
	return report.Values{
		u.key():        got.Bytes / float64(u.size) / got.Seconds / 1e3,
		u.reachedKey(): float64(after-before) / r.End.Sent.Seconds / 1e3,
	}, nil
}
