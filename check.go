package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/fromflannel"
	"twill/subnet"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "check whether twill can take Flannel's place on this host",
		ArgsUsage: "[FILE...] [-- FLANNELD'S FLAGS]",
		Description: "With --from-flannel: prints twill's settings that do what flanneld does here, what\n" +
			"differs, what the cluster's etcd says, and the order in which to move a live\n" +
			"cluster. It changes nothing.\n\n" +
			"flanneld's settings are those of the process that runs, else those of its usual\n" +
			"environment files, or of the FILEs and flags that are named here.\n\n" +
			"Exit code 1: this flanneld does something that twill cannot do.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "from-flannel", Usage: "read flanneld's settings"},
		},
		Before: func(*cli.Context) error { return nil }, // arguments may begin with a dash
		Action: func(c *cli.Context) error {
			if !c.Bool("from-flannel") {
				return usagef("check: want --from-flannel")
			}
			return checkFromFlannel(c)
		},
	}
}

func checkFromFlannel(c *cli.Context) error {
	source, err := flannelSource(c.Args().Slice())
	if errors.Is(err, fromflannel.ErrNotFound) {
		return fmt.Errorf("%w; name its file, or its flags behind --", err)
	}
	if err != nil {
		return fmt.Errorf("read flanneld's settings: %w", err)
	}
	settings, err := fromflannel.Read(source.Env, source.Args)
	if err != nil {
		return fmt.Errorf("read flanneld's settings of %s: %w", source.Name, err)
	}
	plan := fromflannel.NewPlan(settings)
	hosts := askFlannelsEtcd(c.Context, settings, &plan)
	if err := plan.Write(c.App.Writer, source.Name, hosts); err != nil {
		return err
	}
	if len(plan.Blockers) > 0 {
		return exitStatus(exitFailed)
	}
	return nil
}

// flannelSource reads what the arguments name: files, and behind a -- flags. cli takes the first -- away if no file
// stands in front of it, but then the first argument begins with a dash.
func flannelSource(args []string) (fromflannel.Source, error) {
	if len(args) == 0 {
		return fromflannel.Find("/")
	}
	var s fromflannel.Source
	for i, arg := range args {
		if strings.HasPrefix(arg, "-") {
			s.Args = slices.DeleteFunc(slices.Clone(args[i:]), func(a string) bool { return a == "--" })
			break
		}
		if err := s.AddFile(arg); err != nil {
			return s, err
		}
	}
	if len(s.Args) > 0 {
		s.Name = strings.TrimPrefix(s.Name+" and the command line", " and ")
	}
	return s, nil
}

// flannelTimeout bounds the question to an etcd that may be away; the plan is worth having without.
const flannelTimeout = 5 * time.Second

// askFlannelsEtcd adds to the plan what the network config and the leases say, and returns the hosts that hold them.
func askFlannelsEtcd(ctx context.Context, settings fromflannel.Settings, plan *fromflannel.Plan) []fromflannel.Host {
	ctx, cancel := context.WithTimeout(ctx, flannelTimeout)
	defer cancel()
	snapshot, err := flannelSnapshot(ctx, settings.Etcd())
	if err != nil {
		plan.Differences = append(plan.Differences, fmt.Sprintf("etcd was not asked about the network and its hosts: %v.", err))
		return nil
	}
	if _, err := snapshot.ParseConfig(); err != nil {
		plan.Blockers = append(plan.Blockers, fmt.Sprintf("The network config in etcd: %v.", err))
	}
	var hosts []fromflannel.Host
	for _, l := range snapshot.Leases {
		hosts = append(hosts, fromflannel.Host{
			Address: l.PublicIP.String(), Subnet: strings.Map(printable, l.Name),
			Node: strings.Map(printable, l.Node), Twill: l.Proto > 0,
		})
	}
	return hosts
}

func flannelSnapshot(ctx context.Context, etcd fromflannel.Etcd) (subnet.Snapshot, error) {
	cfg := subnet.EtcdConfig{
		Endpoints: splitList(etcd.Endpoints), Prefix: etcd.Prefix,
		CAFile: etcd.CAFile, CertFile: etcd.CertFile, KeyFile: etcd.KeyFile,
		Username: etcd.Username, Password: subnet.Secret(etcd.Password),
	}
	if err := cfg.Validate(); err != nil {
		return subnet.Snapshot{}, err
	}
	registry, err := subnet.Dial(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return subnet.Snapshot{}, err
	}
	defer registry.Close()
	return registry.Snapshot(ctx)
}
