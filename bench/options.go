package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"twill/bench/load"
	"twill/bench/overlay"
)

// Kinds of link.
const (
	// linkVeth is a veth as it is: it hands 64 KB at a time to the other side.
	linkVeth = "veth"
	// linkSegmenting sends packets no longer than the MTU, as a plain network
	// card does.
	linkSegmenting = "segmenting"
)

// options say what to measure. The lists are valid and in the order of the run.
type options struct {
	rounds     int
	load       load.Options
	links      []string
	contenders []overlay.Contender
	workloads  []load.Workload
	tables     bool   // time the table of peers
	out        string // directory for the result
	twill      string // path; empty: build it
	draw       string // result file to draw again; empty: measure
	markdown   bool   // print that as the README's tables, and draw no charts
}

const (
	maxRounds  = 20
	maxSeconds = 60

	// quickWorkloads are those of --quick.
	quickWorkloads = "tcp-1,udp-1400,udp-64,rtt,memory"

	// defaultContenders are all but those that take long and are nobody's
	// choice for speed.
	defaultContenders = "routes,vxlan,twill,twill-plain,flannel,fastd,wireguard-go"

	// defaultCongestion is the kernel's own default, whatever the distribution's.
	defaultCongestion = "cubic"
)

// texts are the options whose text must be looked up or checked.
type texts struct {
	links, contenders, workloads string
	peers                        overlay.Options
	quick                        bool
}

// parseOptions reads the flags. Its error has been printed with the usage.
func parseOptions(args []string) (options, error) {
	var o options
	var raw texts
	flags := defineFlags(&o, &raw)
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if raw.quick {
		preset(flags, map[string]string{"rounds": "1", "workloads": quickWorkloads})
	}
	err := o.choose(flags.Args(), raw)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	return o, err
}

func defineFlags(o *options, raw *texts) *flag.FlagSet {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 3, "`number` of times each measurement is made")
	flags.IntVar(&o.load.Seconds, "seconds", 1, "length of one bulk or round-trip measurement in `s`")
	flags.StringVar(&raw.contenders, "contenders", defaultContenders, "comma-separated `names`, or all; also: twill-unchecked, tinc, openvpn")
	flags.StringVar(&raw.workloads, "workloads", "all", "comma-separated `names`: "+strings.Join(names(load.All(o.load)), ", "))
	flags.StringVar(&raw.links, "links", linkVeth+","+linkSegmenting, "comma-separated `kinds` of underlay link: veth (as it is), segmenting (as a plain network card)")
	flags.StringVar(&o.load.Congestion, "congestion", defaultCongestion, "TCP congestion `control` of bulk flows")
	flags.BoolVar(&o.tables, "tables", true, "time also lookup and change of tables up to 100,000 peers")
	flags.BoolVar(&raw.quick, "quick", false, "other defaults: --rounds 1 --workloads "+quickWorkloads)
	flags.StringVar(&raw.peers.Twill, "twill", "", "`path` of a twill program (default: build the one here)")
	flags.StringVar(&raw.peers.Flanneld, "flanneld", "", "`path` of a flanneld program, to measure its udp backend")
	flags.StringVar(&raw.peers.WireguardGo, "wireguard-go", "", "`path` of a wireguard-go program (default: the one installed)")
	flags.StringVar(&o.out, "out", filepath.Join("bench", "results"), "`directory` for result.json and the charts")
	flags.StringVar(&o.draw, "draw", "", "measure nothing; show the result `file` and draw its charts to --out")
	flags.BoolVar(&o.markdown, "markdown", false, "with --draw: print the README's tables and draw nothing")
	return flags
}

// preset sets flags that the command line has not set.
func preset(flags *flag.FlagSet, values map[string]string) {
	flags.Visit(func(given *flag.Flag) { delete(values, given.Name) })
	for name, value := range values {
		if err := flags.Set(name, value); err != nil {
			panic(err) // impossible: the values are constants
		}
	}
}

// absolute makes the paths of programs valid in any directory: a lab starts them
// in those of its hosts.
func absolute(paths ...*string) (err error) {
	for _, p := range paths {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	return nil
}

// choose turns the texts into what they name.
func (o *options) choose(rest []string, raw texts) (err error) {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.rounds < 1 || o.rounds > maxRounds:
		return fmt.Errorf("--rounds %d: want 1 to %d", o.rounds, maxRounds)
	case o.markdown && o.draw == "":
		return fmt.Errorf("--markdown: want --draw FILE with it")
	case o.load.Seconds < 1 || o.load.Seconds > maxSeconds:
		return fmt.Errorf("--seconds %d: want 1 to %d", o.load.Seconds, maxSeconds)
	}
	if err := absolute(&raw.peers.Twill, &raw.peers.Flanneld, &raw.peers.WireguardGo); err != nil {
		return err
	}
	o.twill = raw.peers.Twill
	if o.contenders, err = pick("contenders", raw.contenders, overlay.All(raw.peers)); err != nil {
		return err
	}
	if o.workloads, err = pick("workloads", raw.workloads, load.All(o.load)); err != nil {
		return err
	}
	kinds, err := pick("links", raw.links, []kind{linkVeth, linkSegmenting})
	o.links = names(kinds)
	return err
}

// named is what an option can name.
type named interface{ Name() string }

// kind is a kind of link as an option names it.
type kind string

func (k kind) Name() string { return string(k) }

// pick returns those of all that a comma-separated list names, in the order of
// all.
func pick[T named](option, list string, all []T) ([]T, error) {
	if list == "all" {
		return all, nil
	}
	wanted := strings.Split(list, ",")
	for _, w := range wanted {
		if !slices.Contains(names(all), w) {
			return nil, fmt.Errorf("--%s: no %q; want some of %s", option, w, strings.Join(names(all), ", "))
		}
	}
	var picked []T
	for _, one := range all {
		if slices.Contains(wanted, one.Name()) {
			picked = append(picked, one)
		}
	}
	return picked, nil
}

func names[T named](list []T) (names []string) {
	for _, one := range list {
		names = append(names, one.Name())
	}
	return names
}
