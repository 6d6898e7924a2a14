package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"twill/bench/load"
	"twill/bench/overlay"
	"twill/bench/report"
	"twill/internal/lab"
)

// startTimeout is how long a contender may take to carry the first packet.
const startTimeout = 15 * time.Second

// bencher is one run.
type bencher struct {
	options
	progress io.Writer
	present  []overlay.Contender
	result   *report.Result
}

// run measures everything that the options ask for. A measurement that fails is
// noted in the result; an error ends the run.
func run(ctx context.Context, o options, progress io.Writer) (*report.Result, error) {
	b := &bencher{options: o, progress: progress, result: &report.Result{
		Started: time.Now().UTC().Truncate(time.Second),
		Machine: report.ThisMachine(),
		Options: report.Options{Rounds: o.rounds, Seconds: o.load.Seconds, Congestion: o.load.Congestion},
		Links:   o.links,
	}}
	b.findContenders()
	for _, w := range o.workloads {
		b.result.Metrics = append(b.result.Metrics, w.Metrics()...)
	}
	for round := range o.rounds {
		for _, link := range o.links {
			for _, c := range b.present {
				if err := b.visit(ctx, round, link, c); err != nil {
					return nil, err
				}
			}
		}
	}
	if o.tables {
		fmt.Fprintf(progress, "tables of up to 100,000 peers\n")
		b.result.Tables = timeTables(tableSizes)
	}
	b.result.Duration = time.Since(b.result.Started).Round(time.Second).Seconds()
	return b.result, nil
}

// findContenders sorts out those that cannot take part.
func (b *bencher) findContenders() {
	for _, c := range b.contenders {
		found := report.Contender{Name: c.Name(), Kind: c.Kind()}
		version, err := c.Find()
		if err != nil {
			found.Missing = err.Error()
			fmt.Fprintf(b.progress, "without %s: %v\n", c.Name(), err)
		} else {
			found.Version = version
			b.present = append(b.present, c)
		}
		b.result.Contenders = append(b.result.Contenders, found)
	}
}

// visit measures one contender on one link for one round. Its error is the end
// of ctx.
func (b *bencher) visit(ctx context.Context, round int, link string, c overlay.Contender) error {
	fmt.Fprintf(b.progress, "round %d/%d  %-10s  %-12s ", round+1, b.rounds, link, c.Name())
	begin := time.Now()
	err := b.cell(ctx, round, link, c)
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	if err != nil {
		b.failed(link, c, fmt.Errorf("round %d: %w", round+1, err))
	}
	fmt.Fprintf(b.progress, "  (%.0f s)\n", time.Since(begin).Seconds())
	return nil
}

// failed notes a failure.
func (b *bencher) failed(link string, c overlay.Contender, err error) {
	line, _, _ := strings.Cut(err.Error(), "\n")
	fmt.Fprintf(b.progress, " FAILED: %s", line)
	b.result.AddFailure(link, c.Name(), err)
}

// cell builds the lab for a contender and lets it do the workloads.
func (b *bencher) cell(ctx context.Context, round int, link string, c overlay.Contender) error {
	l, err := lab.New(lab.Options{Hosts: 2, Command: []string{b.twill}})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.ConnectDirectly(); err != nil {
		return err
	}
	if link == linkSegmenting {
		if err := l.SegmentUnderlay(); err != nil {
			return err
		}
	}
	network, err := b.start(ctx, l, c)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	path := load.Path{From: network.Pods[0], To: network.Pods[1], Daemons: network.Daemons}
	for _, w := range b.workloads {
		values, err := w.Measure(ctx, path)
		if err != nil {
			b.failed(link, c, fmt.Errorf("round %d: %s: %w", round+1, w.Name(), err))
			continue
		}
		b.result.Add(link, c.Name(), values)
		b.show(w, values)
	}
	return nil
}

// start starts a contender and makes sure that it carries whole packets.
func (b *bencher) start(ctx context.Context, l *lab.Lab, c overlay.Contender) (*overlay.Network, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	n, err := c.Start(ctx, l)
	if err != nil {
		return nil, err
	}
	if err := n.Await(ctx); err != nil {
		return nil, err
	}
	return n, n.CheckMTU(ctx)
}

// show prints the first value of a workload as progress.
func (b *bencher) show(w load.Workload, values report.Values) {
	m := w.Metrics()[0]
	if v, found := values[m.Key]; found {
		fmt.Fprintf(b.progress, " %s %s", w.Name(), report.Round(v))
	}
}
