package load

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"twill/bench/report"
)

// clean seeks the highest rate of datagrams at which hardly any is lost.
type clean struct {
	size int // payload in bytes
}

const (
	// cleanLoss is the share that may be lost.
	cleanLoss = 0.001

	// slowest and fastest bound the rates tried, in datagrams a second. No
	// iperf3 on this path sends more than the fastest.
	slowest, fastest = 8e3, 600e3

	// cleanSteps halve the range on a logarithmic scale: 7 leave 3 %.
	cleanSteps = 7

	// cleanTries is how often a rate may fail: a machine that does something
	// else for a moment loses datagrams at any rate.
	cleanTries = 2

	// cleanTime is how long a rate is tried.
	cleanTime = 400 * time.Millisecond

	// pacing is iperf3's interval between bursts, in µs. Its default of 1000
	// makes bursts of a millisecond's datagrams, which no socket buffer holds.
	pacing = 100
)

func (c clean) Name() string { return fmt.Sprintf("clean-%d", c.size) }
func (c clean) Once() bool   { return true }

func (c clean) key() string { return fmt.Sprintf("clean_%d", c.size) }

func (c clean) Metrics() []report.Metric {
	return []report.Metric{
		{Key: c.key(), Label: fmt.Sprintf("%d B, loss < 0.1 %%", c.size), Unit: "kpps", Topic: report.Packets, Better: report.Higher},
	}
}

// Measure returns 0 if even the slowest rate loses more.
func (c clean) Measure(ctx context.Context, p Path) (report.Values, error) {
	best, err := highest(func(rate float64) (float64, bool, error) { return c.try(ctx, p, rate) })
	if err != nil {
		return nil, err
	}
	return report.Values{c.key(): best / 1e3}, nil
}

// highest seeks the highest rate that try calls good, by bisection. try returns
// also the rate that the sender really reached, and that is what counts.
func highest(try func(rate float64) (reached float64, good bool, err error)) (best float64, err error) {
	low, high := slowest, fastest
	for range cleanSteps {
		rate := math.Sqrt(low * high)
		reached, good, err := try(rate)
		switch {
		case err != nil:
			return 0, err
		case !good:
			high = rate
		default:
			low, best = rate, max(best, reached)
		}
	}
	return best, nil
}

// try sends at a rate in datagrams a second.
func (c clean) try(ctx context.Context, p Path, rate float64) (reached float64, good bool, err error) {
	count := math.Ceil(rate * cleanTime.Seconds())
	for range cleanTries {
		r, err := runBulk(ctx, p, cleanTime,
			"--udp", "--length", strconv.Itoa(c.size),
			"--bitrate", strconv.FormatFloat(rate*float64(c.size)*8, 'f', 0, 64),
			"--pacing-timer", strconv.Itoa(pacing),
			"--blockcount", strconv.FormatFloat(count, 'f', 0, 64))
		if err != nil {
			return 0, false, err
		}
		arrived := r.End.Received.Bytes / float64(c.size)
		if arrived >= r.End.Sent.Packets*(1-cleanLoss) {
			return arrived / r.End.Sent.Seconds, true, nil
		}
	}
	return 0, false, nil
}
