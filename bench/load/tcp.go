package load

import (
	"context"
	"strconv"

	"twill/bench/report"
)

// tcp is bulk TCP with as many streams at once.
type tcp struct {
	Options
	name, key, label string
	streams          int
	reverse          bool // the server sends
	cost             bool // measure also the CPU time that it takes
}

func (t tcp) Name() string { return t.name }

func (t tcp) Metrics() []report.Metric {
	list := []report.Metric{
		{Key: t.key, Label: t.label, Unit: "Gb/s", Topic: report.Throughput, Better: report.Higher},
		{Key: t.key + "_retransmits", Label: t.label + " retransmits", Unit: "1/GB", Topic: report.Throughput},
	}
	if t.cost {
		list = append(list, costMetrics()...)
	}
	return list
}

func (t tcp) Measure(ctx context.Context, p Path) (report.Values, error) {
	args := []string{"--time", strconv.Itoa(t.Seconds), "--congestion", t.Congestion, "--parallel", strconv.Itoa(t.streams)}
	if t.reverse {
		args = append(args, "--reverse")
	}
	before, err := readCPU(p)
	if err != nil {
		return nil, err
	}
	r, err := runBulk(ctx, p, seconds(t.Seconds), args...)
	if err != nil {
		return nil, err
	}
	after, err := readCPU(p)
	if err != nil {
		return nil, err
	}
	gigabytes := r.End.Received.Bytes / 1e9
	values := report.Values{
		t.key:                  gigabytes * 8 / r.End.Received.Seconds,
		t.key + "_retransmits": r.End.Sent.Retransmits / gigabytes,
	}
	if t.cost {
		after.since(before).costPer(gigabytes, values)
	}
	return values, nil
}
