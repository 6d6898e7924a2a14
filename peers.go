package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/api"
	"twill/internal/terminal"
)

func peersCommand() *cli.Command {
	return &cli.Command{
		Name:  "peers",
		Usage: "list the peers of the daemon that runs here",
		Description: "Below the table it says why peers are not up, and what to do about it.\n\n" +
			"up: heard within two minutes. silent: not heard, which need be no fault.\n" +
			"unreachable: does not answer probes. vanished: its lease is gone, and it goes after\n" +
			"the grace time. incompatible: its lease cannot be used, or not by this version.",
		Flags: []cli.Flag{
			runDirFlag(), jsonFlag(), watchFlag(),
			&cli.BoolFlag{Name: "wide", Usage: "more columns: packets, loss of each direction, path MTU, clock, node id"},
			sortFlag(peerKeys),
			&cli.StringSliceFlag{Name: "state", Usage: "only peers in `STATE`: " + strings.Join(peerStates(), ", ") + "; repeatable"},
			nodeFlag(),
			&cli.StringFlag{Name: "subnet", Usage: "only peers whose subnet is in, or holds, the subnet or address `SUBNET`"},
		},
		Action: func(c *cli.Context) error {
			sel, err := parsePeerSelection(c)
			if err != nil {
				return err
			}
			return present(c, func(ctx context.Context) (peers api.Peers, err error) {
				if err = askDaemon(ctx, c, api.PeersPath, &peers); err == nil {
					checkSchema(peers.Schema)
					sel.apply(&peers)
				}
				return peers, err
			}, func(t *terminal.Table, peers api.Peers) {
				all := slices.Concat(peers.Peers, peers.Unused)
				sel.order.sort(all)
				peerRows(t, all, c.Bool("wide"), time.Now())
				peerReasons(t, all)
			})
		},
	}
}

func peerStates() []string {
	var names []string
	for _, s := range api.PeerStates {
		names = append(names, string(s))
	}
	return names
}

// peerKeys are what peers are sorted by.
var peerKeys = map[string]func(a, b *api.Peer) int{
	"subnet":   func(a, b *api.Peer) int { return a.Subnet.Compare(b.Subnet) },
	"endpoint": func(a, b *api.Peer) int { return a.Endpoint.Compare(b.Endpoint) },
	"node":     func(a, b *api.Peer) int { return cmp.Compare(a.Node, b.Node) },
	"state":    func(a, b *api.Peer) int { return cmp.Compare(a.State, b.State) },
	"rtt":      func(a, b *api.Peer) int { return cmp.Compare(smoothed(a), smoothed(b)) },
	"loss":     func(a, b *api.Peer) int { return cmp.Compare(share(a.Loss), share(b.Loss)) },
	"rx":       func(a, b *api.Peer) int { return cmp.Compare(a.RxBytes, b.RxBytes) },
	"tx":       func(a, b *api.Peer) int { return cmp.Compare(a.TxBytes, b.TxBytes) },
	"seen":     func(a, b *api.Peer) int { return a.LastSeen.Compare(b.LastSeen) },
	"drops":    func(a, b *api.Peer) int { return cmp.Compare(a.Drops, b.Drops) },
	"mtu":      func(a, b *api.Peer) int { return cmp.Compare(a.PathMTU, b.PathMTU) },
}

// smoothed and share are below 0 for what is not known.
func smoothed(p *api.Peer) float64 {
	if p.RTT == nil {
		return -1
	}
	return p.RTT.Smoothed
}

func share(f *float64) float64 {
	if f == nil {
		return -1
	}
	return *f
}

// peerSelection is which peers to show, and in which order.
type peerSelection struct {
	states []string
	node   func(string) bool
	subnet netip.Prefix // the zero Prefix: all
	order  order[api.Peer]
}

func parsePeerSelection(c *cli.Context) (s peerSelection, err error) {
	s.states = c.StringSlice("state")
	for _, state := range s.states {
		if !slices.Contains(peerStates(), state) {
			return s, usagef("state: %q; want %s", state, strings.Join(peerStates(), ", "))
		}
	}
	if s.node, err = parseNode(c); err != nil {
		return s, err
	}
	if s.subnet, err = parseSubnet(c.String("subnet")); err != nil {
		return s, err
	}
	s.order, err = parseOrder(c, peerKeys)
	return s, err
}

// parseSubnet reads a subnet, an address, or nothing.
func parseSubnet(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, usagef("subnet: %q; want a subnet as 10.5.7.0/24 or an address", s)
	}
	return p.Masked(), nil
}

// apply leaves in peers what was asked for.
func (s *peerSelection) apply(peers *api.Peers) {
	for _, list := range []*[]api.Peer{&peers.Peers, &peers.Unused} {
		*list = slices.DeleteFunc(*list, func(p api.Peer) bool { return !s.matches(&p) })
		s.order.sort(*list)
	}
}

func (s *peerSelection) matches(p *api.Peer) bool {
	return (len(s.states) == 0 || slices.Contains(s.states, string(p.State))) &&
		s.node(p.Node) && (!s.subnet.IsValid() || s.subnet.Overlaps(p.Subnet))
}

func peerRows(t *terminal.Table, peers []api.Peer, wide bool, now time.Time) {
	number := terminal.Number
	header := []terminal.Cell{terminal.Text("SUBNET"), terminal.Text("ENDPOINT"), terminal.Text("NODE"), terminal.Text("STATE"),
		number("RTT"), number("LOSS"), number("RX"), number("TX"), number("SEEN"), number("DROPS")}
	if wide {
		header = append(header, number("RX PACKETS"), number("TX PACKETS"), number("LOST OUT"), number("LOST IN"), number("MTU"), number("CLOCK"), terminal.Text("NODE ID"))
	}
	t.Row(header...)
	for i := range peers {
		p := &peers[i]
		row := []terminal.Cell{terminal.Text(subnetCell(p)), terminal.Text(endpointCell(p.Endpoint)), terminal.Text(p.Node), stateCell(p.State),
			number(rttCell(p.RTT)), number(lossCell(p.Loss)), number(terminal.Bytes(p.RxBytes)), number(terminal.Bytes(p.TxBytes)),
			number(terminal.Ago(p.LastSeen, now)), number(terminal.Count(p.Drops))}
		if wide {
			row = append(row, number(terminal.Count(p.RxPackets)), number(terminal.Count(p.TxPackets)), number(lossCell(p.LossOut)), number(lossCell(p.LossIn)),
				number(mtuCell(p.PathMTU)), number(clockCell(p.ClockAhead)), terminal.Text(p.NodeID))
		}
		t.Row(row...)
	}
}

// stateStyles are the colours of the states.
var stateStyles = map[api.PeerState]terminal.Style{
	api.StateUp:           terminal.Green,
	api.StateSilent:       terminal.Dim,
	api.StateUnreachable:  terminal.Red,
	api.StateIncompatible: terminal.Red,
	api.StateVanished:     terminal.Yellow,
}

func stateCell(s api.PeerState) terminal.Cell {
	return terminal.Cell{Text: string(s), Style: stateStyles[s]}
}

// subnetCell is the key's name where it names no subnet.
func subnetCell(p *api.Peer) string {
	if p.Subnet.IsValid() {
		return p.Subnet.String()
	}
	return p.Name
}

func endpointCell(e netip.AddrPort) string {
	switch {
	case !e.Addr().IsValid():
		return ""
	case e.Port() == 0:
		return e.Addr().String()
	}
	return e.String()
}

func rttCell(rtt *api.RTT) string {
	if rtt == nil {
		return ""
	}
	return terminal.Milliseconds(rtt.Smoothed)
}

func lossCell(loss *float64) string {
	switch {
	case loss == nil:
		return ""
	case *loss > 0 && *loss < 0.1:
		return fmt.Sprintf("%.1f%%", 100**loss)
	}
	return fmt.Sprintf("%.0f%%", 100**loss)
}

func mtuCell(mtu int) string {
	if mtu == 0 {
		return ""
	}
	return fmt.Sprint(mtu)
}

func clockCell(ahead *float64) string {
	if ahead == nil {
		return ""
	}
	return fmt.Sprintf("%+.1f s", *ahead)
}

// namedInReason is how many peers are named that share a reason.
const namedInReason = 4

// peerReasons says why peers are not up and what to do about it, once for those of which the same is true.
func peerReasons(t *terminal.Table, peers []api.Peer) {
	type cause struct {
		state          api.PeerState
		reason, remedy string
	}
	var causes []cause
	who := map[cause][]string{}
	for i := range peers {
		p := &peers[i]
		if p.Reason == "" {
			continue
		}
		k := cause{p.State, p.Reason, p.Remedy}
		if who[k] == nil {
			causes = append(causes, k)
		}
		who[k] = append(who[k], strings.TrimSpace(subnetCell(p)+" "+p.Node))
	}
	for _, k := range causes {
		names := who[k]
		more := ""
		if n := len(names) - namedInReason; n > 0 {
			names, more = names[:namedInReason], fmt.Sprintf(" and %d more", n)
		}
		t.Line("", terminal.Plain, "")
		t.Line("", stateStyles[k.state], fmt.Sprintf("%s: %s%s", k.state, strings.Join(names, ", "), more))
		t.Line("  ", terminal.Plain, k.reason)
		if k.remedy != "" {
			t.Line("  ", terminal.Plain, "→ "+k.remedy)
		}
	}
}
