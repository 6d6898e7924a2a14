package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/api"
	"twill/internal/daemon"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the daemon that runs here: lease, etcd, counters, drops",
		Flags: []cli.Flag{runDirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			var s api.Status
			if err := api.Get(c.Context, daemon.SocketPath(c.String("run-dir")), api.StatusPath, &s); err != nil {
				return err
			}
			return show(c, s, func(t *table) { statusRows(t, s, time.Now()) })
		},
	}
}

func statusRows(t *table, s api.Status, now time.Time) {
	t.row("node", s.Node)
	t.row("lease", fmt.Sprintf("%s of %s", s.Subnet, s.Network))
	t.row("endpoint", fmt.Sprintf("%s:%d", s.PublicIP, s.Port))
	t.row("device", fmt.Sprintf("%s, MTU %d, %d queues", s.Device, s.MTU, s.Queues))
	t.row("peers", peersCell(s))
	t.row("etcd", etcdCell(s.Etcd, now))
	for _, p := range s.Problems {
		t.row("problem", p.Problem)
		t.row("to do", p.Remedy)
	}
	for _, o := range s.Offloads {
		t.row("offload "+o.Name, offloadCell(o))
	}
	t.row("sent", countersCell(s.Tx))
	t.row("received", countersCell(s.Rx))
	for _, d := range []struct {
		direction string
		c         api.Counters
	}{{"out", s.Tx}, {"in", s.Rx}} {
		for _, reason := range slices.Sorted(maps.Keys(d.c.Drops)) {
			t.row("dropped "+d.direction, fmt.Sprintf("%d %s", d.c.Drops[reason], reason))
		}
	}
}

func etcdCell(e api.Etcd, now time.Time) string {
	since := now.Sub(e.Since).Round(time.Second)
	trouble := "away"
	if e.Refuses {
		trouble = "refuses what we ask"
	}
	switch {
	case !e.Cached.IsZero():
		return fmt.Sprintf("%s for %v, forwarding from cache since %s: %s", trouble, since, e.Cached.UTC().Format(time.RFC3339), e.Error)
	case e.Refuses || !e.Reachable:
		return fmt.Sprintf("%s for %v, forwarding with the table of revision %d: %s", trouble, since, e.Revision, e.Error)
	}
	return fmt.Sprintf("answers since %v, table of revision %d", since, e.Revision)
}

func peersCell(s api.Status) string {
	if s.Skipped == 0 {
		return fmt.Sprint(s.Peers)
	}
	return fmt.Sprintf("%d, %d leases are not used: see `twill leases`", s.Peers, s.Skipped)
}

func offloadCell(o api.Offload) string {
	if o.On {
		return "on"
	}
	return "off: " + o.Why
}

func countersCell(c api.Counters) string {
	return fmt.Sprintf("%d packets, %d bytes", c.Packets, c.Bytes)
}
