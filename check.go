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

	"twill/internal/api"
	"twill/internal/check"
	"twill/internal/daemon"
	"twill/internal/fromflannel"
	"twill/internal/terminal"
	"twill/subnet"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "find out what keeps twill from working on this host",
		ArgsUsage: "[FILE...] [-- FLANNELD'S FLAGS]",
		Description: "Looks at the kernel, the firewall, the underlay, etcd, Docker's bridge and settings,\n" +
			"systemd's order and, where the daemon runs, at its peers, and says of each fault what\n" +
			"to do about it. It changes nothing, and can be run before twill is started. Its flags\n" +
			"are those of `twill run`, and are read from the same settings.\n\n" +
			"With --from-flannel: prints twill's settings that do what flanneld does here, what\n" +
			"differs, what the cluster's etcd says, and the order in which to move a live\n" +
			"cluster. flanneld's settings are those of the process that runs, else those of its\n" +
			"usual environment files, or of the FILEs and flags that are named here.\n\n" +
			"Exit code 1: something does not work, or this flanneld does something that twill\n" +
			"cannot do. Warnings alone leave it at 0: peers that are away are one, unless they are\n" +
			"half or more.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "from-flannel", Usage: "read flanneld's settings"},
			jsonFlag(),
		}, runFlags()...),
		Before: func(*cli.Context) error { return nil }, // arguments may begin with a dash
		Action: func(c *cli.Context) error {
			if c.Bool("from-flannel") {
				return checkFromFlannel(c)
			}
			if err := noArguments(c); err != nil {
				return err
			}
			return checkHost(c)
		},
	}
}

// checkHost prints what is found on this host.
func checkHost(c *cli.Context) error {
	cfg, err := daemonConfig(c)
	if err != nil {
		return err
	}
	if cfg.EmbedEtcd {
		cfg.Etcd.Endpoints = []string{"http://" + cfg.EmbedEtcdListen.String()}
	}
	facts := check.Gather(c.Context, check.Settings{
		TunName: cfg.TunName, Port: cfg.Port, PublicPort: cfg.PublicPort, MTU: cfg.MTU,
		SubnetFile: cfg.SubnetFilePath(), StateDir: cfg.StateDir, Underlay: cfg.Underlay,
		Etcd: cfg.Etcd, SetSysctls: cfg.SetSysctls, ForwardRules: cfg.ForwardRules,
	}, daemon.SocketPath(cfg.RunDir), daemon.LastEndPath(cfg.RunDir))
	if c.Context.Err() != nil {
		return c.Context.Err()
	}
	report := api.Check{Schema: api.Schema, Findings: check.Judge(facts)}
	if err := show(c, report, func(t *terminal.Table) { findingRows(t, report) }); err != nil {
		return err
	}
	if slices.ContainsFunc(report.Findings, func(f api.Finding) bool { return f.Level == api.LevelFail }) {
		return exitStatus(exitFailed)
	}
	return nil
}

// levelStyles are the colours of the levels.
var levelStyles = map[api.Level]terminal.Style{
	api.LevelOK:   terminal.Green,
	api.LevelWarn: terminal.Yellow,
	api.LevelFail: terminal.Red,
}

func findingRows(t *terminal.Table, report api.Check) {
	for _, f := range report.Findings {
		t.Row(terminal.Cell{Text: string(f.Level), Style: levelStyles[f.Level]}, terminal.Text(f.Code), terminal.Text(f.Found))
		if f.Remedy != "" {
			t.Row(terminal.Text(" "), terminal.Text(" "), terminal.Text("to do: "+f.Remedy))
		}
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
			Address: l.PublicIP.String(), Subnet: terminal.Printable(l.Name),
			Node: terminal.Printable(l.Node), Twill: l.Proto > 0,
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
