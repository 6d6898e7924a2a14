package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"twill/internal/api"
	"twill/subnet"
)

func leasesCommand() *cli.Command {
	return &cli.Command{
		Name:  "leases",
		Usage: "list the leases of all hosts, from etcd",
		Flags: append(etcdFlags(), jsonFlag()),
		Action: func(c *cli.Context) error {
			return askEtcd(c, func(ctx context.Context, r *subnet.Registry) error {
				leases, err := readLeases(ctx, r)
				if err != nil {
					return err
				}
				return show(c, leases, func(t *table) { leaseRows(t, leases) })
			})
		},
	}
}

// ttlRequests is how many leases are asked for their time to live at a time.
const ttlRequests = 16

func readLeases(ctx context.Context, r *subnet.Registry) (api.Leases, error) {
	s, err := r.Snapshot(ctx)
	if err != nil {
		return api.Leases{}, err
	}
	var problems map[string]string
	if network, err := s.ParseConfig(); err == nil {
		problems = s.Problems(network)
	} else {
		fmt.Fprintln(os.Stderr, "twill: the leases are not checked against the network config:", err)
	}
	out := api.Leases{Schema: api.Schema, Leases: make([]api.Lease, len(s.Leases))}
	var group errgroup.Group
	group.SetLimit(ttlRequests)
	for i, l := range s.Leases {
		a := &out.Leases[i]
		*a = leaseRow(l)
		if a.Problem == "" {
			a.Problem = problems[l.Name]
		}
		if l.Reserved() {
			continue
		}
		group.Go(func() error {
			if ttl, err := r.TimeToLive(ctx, l); err == nil { // else it is not shown
				seconds := int64(ttl / time.Second)
				a.ExpiresIn = &seconds
			}
			return nil
		})
	}
	return out, group.Wait()
}

func leaseRow(l subnet.Lease) api.Lease {
	a := api.Lease{
		Subnet:   l.Name,
		Node:     l.Node,
		NodeID:   l.NodeID,
		Backend:  l.BackendType,
		Port:     l.Port,
		Reserved: l.Reserved(),
		Note:     subnet.Note(l),
	}
	if l.Subnet.IsValid() {
		a.Subnet = l.Subnet.String()
	}
	if l.PublicIP.IsValid() {
		a.PublicIP = l.PublicIP.String()
	}
	if l.Err != nil {
		a.Problem = l.Err.Error()
	} else if a.Backend == "" {
		a.Backend = subnet.BackendUDP
	}
	return a
}

func leaseRows(t *table, leases api.Leases) {
	t.row("SUBNET", "PUBLIC IP", "NODE", "BACKEND", "PORT", "EXPIRES IN", "PROBLEM")
	for _, l := range leases.Leases {
		t.row(l.Subnet, l.PublicIP, l.Node, l.Backend, portCell(l.Port), expiresCell(l), cmp.Or(l.Problem, l.Note))
	}
}

func expiresCell(l api.Lease) string {
	switch {
	case l.Reserved:
		return "never"
	case l.ExpiresIn == nil:
		return ""
	}
	return (time.Duration(*l.ExpiresIn) * time.Second).String()
}

func portCell(port uint16) string {
	if port == 0 {
		return "" // the network config's
	}
	return number(port)
}
