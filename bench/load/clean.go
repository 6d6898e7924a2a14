package load

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
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

	// slowest is the first rate tried, in datagrams a second. The next is twice
	// the one before, until one fails, or fastest is reached.
	slowest, fastest = 8e3, 600e3

	// cleanSteps halve that last factor of two on a logarithmic scale: 3 leave
	// 9 %, which the rounds average.
	cleanSteps = 3

	// senderLimit is the share of the wanted rate that the sender must reach:
	// below, it cannot go faster.
	senderLimit = 0.9

	// cleanTries is how often a rate may fail: a machine that does something
	// else for a moment loses datagrams at any rate.
	cleanTries = 3

	// cleanTime is how long a rate is tried.
	cleanTime = 250 * time.Millisecond

	// cleanWindow is the socket buffer in bytes, where the machine allows it:
	// the path shall lose, not a receiver that waits for its processor.
	cleanWindow = 4 << 20

	// pacing is iperf3's interval between bursts, in µs. Its default of 1000
	// makes bursts of a millisecond's datagrams, which no socket buffer holds.
	pacing = 100
)

func (c clean) Name() string { return fmt.Sprintf("clean-%d", c.size) }

func (c clean) key() string { return fmt.Sprintf("clean_%d", c.size) }

func (c clean) Metrics() []report.Metric {
	return []report.Metric{
		{Key: c.key(), Label: fmt.Sprintf("%d B, loss < 0.1 %%", c.size), Unit: "kpps", Topic: report.Packets, Better: report.Higher},
	}
}

// Measure returns 0 if even the slowest rate loses more.
func (c clean) Measure(ctx context.Context, p Path) (report.Values, error) {
	best, err := highest(func(rate float64) (reached float64, good bool, err error) { return c.try(ctx, p, rate) })
	if err != nil {
		return nil, err
	}
	return report.Values{c.key(): best / 1e3}, nil
}

// tryRate sends at a rate. It returns the rate at which datagrams arrived, which
// is lower if the sender is not fast enough, and whether hardly any was lost.
type tryRate func(rate float64) (reached float64, good bool, err error)

// highest seeks the highest rate that is good.
func highest(try tryRate) (best float64, err error) {
	low, high := 0.0, slowest
	for high < fastest {
		reached, good, err := try(high)
		if err != nil {
			return 0, err
		}
		if !good {
			break
		}
		best = max(best, reached)
		if reached < high*senderLimit {
			return best, nil
		}
		low, high = high, 2*high
	}
	if low == 0 {
		return 0, nil
	}
	return bisect(try, low, high, best)
}

// bisect seeks between a rate that is good and one that is not.
func bisect(try tryRate, low, high, best float64) (float64, error) {
	for range cleanSteps {
		rate := math.Sqrt(low * high)
		reached, good, err := try(rate)
		switch {
		case err != nil:
			return 0, err
		case good:
			low, best = rate, max(best, reached)
		default:
			high = rate
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
			"--window", strconv.Itoa(socketBuffer(cleanWindow)),
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

// socketBuffer is the largest socket buffer up to wanted bytes that an ordinary
// program may have, in both directions.
func socketBuffer(wanted int) int {
	const kernelDefault = 212992
	for _, limit := range []string{"rmem_max", "wmem_max"} {
		text, err := os.ReadFile("/proc/sys/net/core/" + limit)
		n, parseErr := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || parseErr != nil {
			n = kernelDefault // hidden in some containers
		}
		wanted = min(wanted, n)
	}
	return wanted
}
