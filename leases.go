package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"twill/internal/api"
	"twill/internal/terminal"
	"twill/subnet"
)

func leasesCommand() *cli.Command {
	return &cli.Command{
		Name:        "leases",
		Usage:       "list the leases of all hosts, from etcd",
		Description: "Below the table it says what is wrong with leases, and what to do about it.",
		Flags: append(etcdFlags(), jsonFlag(), watchFlag(), sortFlag(leaseKeys), nodeFlag(),
			&cli.BoolFlag{Name: "problems", Usage: "only leases about which there is something to say"}),
		Action: func(c *cli.Context) error {
			sel, err := parseLeaseSelection(c)
			if err != nil {
				return err
			}
			return present(c, func(context.Context) (leases api.Leases, err error) {
				err = askEtcd(c, func(ctx context.Context, r *subnet.Registry) (err error) {
					leases, err = readLeases(ctx, r)
					return err
				})
				sel.apply(&leases)
				return leases, err
			}, leaseRows)
		},
	}
}

// leaseKeys are what leases are sorted by.
var leaseKeys = map[string]func(a, b *api.Lease) int{
	"subnet": func(a, b *api.Lease) int {
		return cmp.Or(leaseSubnet(a).Compare(leaseSubnet(b)), cmp.Compare(a.Subnet, b.Subnet))
	},
	"public-ip": func(a, b *api.Lease) int {
		return cmp.Or(leaseAddr(a).Compare(leaseAddr(b)), cmp.Compare(a.PublicIP, b.PublicIP))
	},
	"node":    func(a, b *api.Lease) int { return cmp.Compare(a.Node, b.Node) },
	"backend": func(a, b *api.Lease) int { return cmp.Compare(a.Backend, b.Backend) },
	"expires": func(a, b *api.Lease) int { return cmp.Compare(expiry(a), expiry(b)) },
}

// leaseSubnet and leaseAddr are the zero value of what does not parse.
func leaseSubnet(l *api.Lease) netip.Prefix {
	p, _ := netip.ParsePrefix(l.Subnet)
	return p
}

func leaseAddr(l *api.Lease) netip.Addr {
	a, _ := netip.ParseAddr(l.PublicIP)
	return a
}

// expiry is in seconds; that of a reservation is the last of all, and one that is not known comes first.
func expiry(l *api.Lease) int64 {
	switch {
	case l.Reserved:
		return 1<<63 - 1
	case l.ExpiresIn == nil:
		return -1
	}
	return *l.ExpiresIn
}

// leaseSelection is which leases to show, and in which order.
type leaseSelection struct {
	node     func(string) bool
	problems bool
	order    order[api.Lease]
}

func parseLeaseSelection(c *cli.Context) (s leaseSelection, err error) {
	s.problems = c.Bool("problems")
	if s.node, err = parseNode(c); err != nil {
		return s, err
	}
	s.order, err = parseOrder(c, leaseKeys)
	return s, err
}

func (s *leaseSelection) apply(leases *api.Leases) {
	leases.Leases = slices.DeleteFunc(leases.Leases, func(l api.Lease) bool {
		return !s.node(l.Node) || s.problems && l.Problem == "" && l.Note == ""
	})
	s.order.sort(leases.Leases)
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
		if a.Problem = cmp.Or(a.Problem, problems[l.Name]); a.Problem != "" {
			a.Remedy = subnet.Remedy(l)
		}
		if l.Reserved() {
			continue
		}
		group.Go(func() error {
			if ttl, err := r.TimeToLive(ctx, l); err == nil { // else it is not shown
				seconds := int64(ttl / time.Second)
				a.ExpiresIn = &seconds
				noteExpiry(a, ttl)
			}
			return nil
		})
	}
	return out, group.Wait()
}

// renewedLate is less than any host lets its lease run down to: twill renews after a third of the time, Flannel an hour before
// the end.
const renewedLate = 45 * time.Minute

// noteExpiry says of a lease that its host does not renew it.
func noteExpiry(a *api.Lease, left time.Duration) {
	if a.Problem == "" && left < renewedLate {
		a.Note = "its host has not renewed it"
		a.Remedy = "is the daemon there running, and does it reach etcd? When the lease expires another host may take the subnet"
	}
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

func leaseRows(t *terminal.Table, leases api.Leases) {
	t.Row(terminal.Text("SUBNET"), terminal.Text("PUBLIC IP"), terminal.Text("NODE"), terminal.Text("BACKEND"),
		terminal.Number("PORT"), terminal.Number("EXPIRES IN"), terminal.Text("STATE"))
	for i := range leases.Leases {
		l := &leases.Leases[i]
		t.Row(terminal.Text(l.Subnet), terminal.Text(l.PublicIP), terminal.Text(l.Node), terminal.Text(l.Backend),
			terminal.Number(portCell(l.Port)), terminal.Number(expiresCell(l)), useCell(l))
	}
	for i := range leases.Leases {
		l := &leases.Leases[i]
		if l.Problem == "" && l.Note == "" {
			continue
		}
		t.Line("", terminal.Plain, "")
		t.Line("", useCell(l).Style, fmt.Sprintf("%s: %s", l.Subnet, cmp.Or(l.Problem, l.Note)))
		if l.Remedy != "" {
			t.Line("  ", terminal.Plain, "→ "+l.Remedy)
		}
	}
}

// useCell says in a word what becomes of a lease.
func useCell(l *api.Lease) terminal.Cell {
	switch {
	case l.Problem != "":
		return terminal.Cell{Text: "not used", Style: terminal.Red}
	case l.Note != "":
		return terminal.Cell{Text: "used, see below", Style: terminal.Yellow}
	}
	return terminal.Cell{Text: "used", Style: terminal.Green}
}

func expiresCell(l *api.Lease) string {
	switch {
	case l.Reserved:
		return "never"
	case l.ExpiresIn == nil:
		return ""
	}
	return terminal.Span(time.Duration(*l.ExpiresIn) * time.Second)
}

func portCell(port uint16) string {
	if port == 0 {
		return "" // the network config's
	}
	return number(port)
}
