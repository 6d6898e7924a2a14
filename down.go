package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"twill/internal/daemon"
	"twill/subnet"
)

func downCommand() *cli.Command {
	return &cli.Command{
		Name:  "down",
		Usage: "remove what a stopped daemon left: device, route, rules, files",
		Description: "The lease in etcd and the node id, by which this host would find it again, stay\n" +
			"unless --release-lease is given. The data of an embedded etcd stays.",
		Flags: append([]cli.Flag{
			runDirFlag(), stateDirFlag(), subnetFileFlag(), tunNameFlag(),
			&cli.BoolFlag{Name: "release-lease", Usage: "delete this host's lease from etcd: another host may take the subnet"},
		}, etcdFlags()...),
		Action: func(c *cli.Context) error {
			leftovers := daemon.Leftovers{
				TunName:    c.String("tun-name"),
				RunDir:     c.String("run-dir"),
				StateDir:   c.String("state-dir"),
				SubnetFile: c.String("subnet-file"),
				KeepNodeID: !c.Bool("release-lease"),
			}
			if c.Bool("release-lease") {
				if err := releaseLease(c, leftovers); err != nil {
					return err
				}
			}
			left, err := daemon.Down(leftovers)
			for _, l := range left {
				fmt.Fprintln(os.Stderr, "twill: left", l)
			}
			return err
		},
	}
}

// releaseLease comes first: the node id that it needs is one of the files that
// Down removes.
func releaseLease(c *cli.Context, l daemon.Leftovers) error {
	if err := l.CheckStopped(); err != nil {
		return err
	}
	id, err := subnet.ReadNodeID(l.StateDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it never ran, or is down already
	}
	if err != nil {
		return err
	}
	return askEtcd(c, func(ctx context.Context, r *subnet.Registry) error {
		released, kept, err := r.Release(ctx, id)
		if len(released) > 0 {
			fmt.Fprintln(os.Stderr, "twill: released lease", strings.Join(released, ", "))
		}
		if len(kept) > 0 {
			fmt.Fprintln(os.Stderr, "twill: reservation stays:", strings.Join(kept, ", "))
		}
		return err
	})
}
