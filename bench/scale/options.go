package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// options say how large the network is and how long it is watched.
type options struct {
	leases int           // in etcd when a host joins
	rounds int           // a host joins so many times
	nodes  int           // that watch
	others int           // leases beside the nodes' own, which change
	rate   int           // changes a second
	steady int           // a lower rate, that these two sides can keep up with on this machine
	churn  time.Duration // for each rate
	rest   time.Duration // how long the nodes are counted when nothing changes
	out    string
	show   string // result file to show; empty: measure
	// profiles is a directory for CPU profiles of each child; empty: none.
	profiles string
}

const (
	// maxLeases is what Network has room for.
	maxLeases = 60_000
	maxNodes  = 5000
	maxRate   = 2000
	maxTime   = 10 * time.Minute
)

// parseOptions reads the flags. Its error has been printed.
func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.IntVar(&o.leases, "leases", 10_000, "`number` of leases in etcd when a host joins")
	flags.IntVar(&o.rounds, "rounds", 3, "`number` of times a host joins")
	flags.IntVar(&o.nodes, "nodes", 1000, "`number` of hosts that watch")
	flags.IntVar(&o.others, "others", 1000, "`number` of leases, beside those of the hosts, that change")
	flags.IntVar(&o.rate, "rate", 100, "`number` of leases that change in a second")
	flags.IntVar(&o.steady, "steady", 20, "`number` of leases that change in a second in a first, easier measurement")
	flags.DurationVar(&o.churn, "churn", 10*time.Second, "`time` for which leases change")
	flags.DurationVar(&o.rest, "rest", time.Minute, "`time` for which the hosts' requests are counted while nothing changes")
	flags.StringVar(&o.out, "out", filepath.Join("bench", "results", "scale.json"), "`file` for the result")
	flags.StringVar(&o.show, "show", "", "measure nothing; print the result in this `file`")
	flags.StringVar(&o.profiles, "profiles", "", "write a CPU profile of each process, for go tool pprof, into this `directory`")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	err := o.check(flags.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
	}
	return o, err
}

func (o options) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}
	for _, n := range []struct {
		flag       string
		value, max int
	}{
		{"leases", o.leases, maxLeases},
		{"rounds", o.rounds, 20},
		{"nodes", o.nodes, maxNodes},
		{"others", o.others, maxLeases},
		{"rate", o.rate, maxRate},
		{"steady", o.steady, maxRate},
	} {
		if n.value < 1 || n.value > n.max {
			return fmt.Errorf("--%s %d: want 1 to %d", n.flag, n.value, n.max)
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{"churn", o.churn}, {"rest", o.rest}} {
		if d.value < time.Second || d.value > maxTime {
			return fmt.Errorf("--%s %v: want 1s to %v", d.flag, d.value, maxTime)
		}
	}
	return nil
}
