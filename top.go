package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/api"
	"twill/internal/terminal"
)

func topCommand() *cli.Command {
	return &cli.Command{
		Name:  "top",
		Usage: "show what is exchanged with each peer right now",
		Description: "Packets and bits a second of the pods, dropped packets a second and the round trip, the\n" +
			"busiest peer first, measured anew each second. q or Ctrl-C ends it. Where stdout is no\n" +
			"terminal, or with --once or --json, it measures once.",
		Flags: []cli.Flag{
			runDirFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "once", Usage: "measure once and end"},
			&cli.DurationFlag{Name: "interval", Value: time.Second, Usage: "measure over `TIME`"},
			sortFlag(rateKeys), nodeFlag(),
		},
		Action: func(c *cli.Context) error {
			t, err := newTop(c)
			if err != nil {
				return err
			}
			if err := t.measure(c.Context); err != nil {
				return err
			}
			if out, ok := c.App.Writer.(*os.File); ok && terminal.IsTerminal(out) && !c.Bool("once") && !c.Bool("json") {
				return t.run(c.Context, out)
			}
			return t.once(c.Context)
		},
	}
}

// rateKeys are what the peers of twill top are sorted by.
var rateKeys = map[string]func(a, b *peerRate) int{
	"rate":   func(a, b *peerRate) int { return cmp.Compare(a.rx.bits+a.tx.bits, b.rx.bits+b.tx.bits) },
	"rx":     func(a, b *peerRate) int { return cmp.Compare(a.rx.bits, b.rx.bits) },
	"tx":     func(a, b *peerRate) int { return cmp.Compare(a.tx.bits, b.tx.bits) },
	"drops":  func(a, b *peerRate) int { return cmp.Compare(a.drops, b.drops) },
	"rtt":    func(a, b *peerRate) int { return cmp.Compare(smoothed(a.peer), smoothed(b.peer)) },
	"node":   func(a, b *peerRate) int { return cmp.Compare(a.peer.Node, b.peer.Node) },
	"subnet": func(a, b *peerRate) int { return a.peer.Subnet.Compare(b.peer.Subnet) },
	"state":  func(a, b *peerRate) int { return cmp.Compare(a.peer.State, b.peer.State) },
}

// top measures again and again what goes to the peers and comes from them.
type top struct {
	ask      func(context.Context, *api.Peers) error
	out      *cli.Context
	interval time.Duration
	node     func(string) bool
	order    order[peerRate]

	before, after api.Peers
}

const minTopInterval = 200 * time.Millisecond

func newTop(c *cli.Context) (t *top, err error) {
	t = &top{
		ask:      func(ctx context.Context, p *api.Peers) error { return askDaemon(ctx, c, api.PeersPath, p) },
		out:      c,
		interval: c.Duration("interval"),
	}
	if t.interval < minTopInterval {
		return nil, usagef("interval: %v; want at least %v", t.interval, minTopInterval)
	}
	if t.node, err = parseNode(c); err != nil {
		return nil, err
	}
	if t.order, err = parseOrder(c, rateKeys); err == nil && t.order.compare == nil {
		t.order = order[peerRate]{compare: rateKeys["rate"], down: true}
	}
	return t, err
}

// measure reads the counters anew.
func (t *top) measure(ctx context.Context) error {
	var now api.Peers
	if err := t.ask(ctx, &now); err != nil {
		return err
	}
	if now.Time.IsZero() { // an older daemon's
		now.Time = time.Now()
	}
	checkSchema(now.Schema)
	t.before, t.after = t.after, now
	return nil
}

// once prints what was exchanged in one interval.
func (t *top) once(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t.interval):
	}
	if err := t.measure(ctx); err != nil {
		return err
	}
	w := t.out.App.Writer
	if t.out.Bool("json") {
		return writeJSON(w, t.report())
	}
	table := t.table(terminal.Coloured(w))
	_, err := table.WriteTo(w)
	return err
}

// run fills the terminal until q or Ctrl-C is pressed, or ctx ends.
func (t *top) run(ctx context.Context, out *os.File) error {
	screen, err := terminal.OpenScreen(os.Stdin, out)
	if err != nil {
		return err
	}
	defer screen.Close()
	const help = "q or Ctrl-C: end"
	picture := "measuring\n"
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	for {
		screen.Draw(help + "\n\n" + picture)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case key := <-screen.Keys():
			if key == 'q' || key == 'Q' || key == ctrlC {
				return nil
			}
			continue
		case <-screen.Resized():
			continue
		case <-tick.C:
		}
		var b strings.Builder
		if err := t.measure(ctx); err != nil {
			fmt.Fprintln(&b, terminal.Printable(err.Error())) // it may come back
		} else {
			table := t.table(terminal.Coloured(out))
			_, _ = table.WriteTo(&b) // a Builder takes everything
		}
		picture = b.String()
	}
}

// ctrlC is what a terminal sends for it, where it is not made a signal.
const ctrlC = 3

// rates are those of the peers that were asked for, in the order that was.
func (t *top) rates() []peerRate {
	rates := slices.DeleteFunc(ratesOf(t.before, t.after), func(r peerRate) bool { return !t.node(r.peer.Node) })
	t.order.sort(rates)
	return rates
}

// report is the rates for programs.
func (t *top) report() api.Rates {
	rates := t.rates()
	report := api.Rates{Schema: api.Schema, Time: t.after.Time, Interval: t.after.Time.Sub(t.before.Time).Seconds(), Peers: make([]api.PeerRates, 0, len(rates))}
	for _, r := range rates {
		p := r.peer
		report.Peers = append(report.Peers, api.PeerRates{
			Subnet: p.Subnet, Endpoint: p.Endpoint, Node: p.Node, NodeID: p.NodeID, State: p.State, RTT: p.RTT,
			RxPackets: r.rx.packets, RxBits: r.rx.bits, TxPackets: r.tx.packets, TxBits: r.tx.bits, Drops: r.drops,
		})
	}
	return report
}

// table shows all peers in one line, and then each.
func (t *top) table(colour bool) *terminal.Table {
	table := &terminal.Table{Colour: colour}
	shown := t.rates()
	sum := peerRate{peer: &api.Peer{}}
	for i := range shown {
		sum.add(&shown[i])
	}
	number := terminal.Number
	table.Row(terminal.Text("SUBNET"), terminal.Text("NODE"), terminal.Text("STATE"), number("RTT"),
		number("RX PKT/S"), number("RX BIT/S"), number("TX PKT/S"), number("TX BIT/S"), number("DROPS/S"))
	rateRow(table, terminal.Cell{Text: plural(len(shown), "peer"), Style: terminal.Bold}, &sum)
	for i := range shown {
		rateRow(table, terminal.Text(subnetCell(shown[i].peer)), &shown[i])
	}
	return table
}

func rateRow(t *terminal.Table, name terminal.Cell, r *peerRate) {
	number := func(n float64) terminal.Cell { return terminal.Number(terminal.Rate(n)) }
	t.Row(name, terminal.Text(r.peer.Node), stateCell(r.peer.State), terminal.Number(rttCell(r.peer.RTT)),
		number(r.rx.packets), number(r.rx.bits), number(r.tx.packets), number(r.tx.bits), number(r.drops))
}

// peerRate is what was exchanged with a peer, a second.
type peerRate struct {
	peer   *api.Peer
	rx, tx rate
	drops  float64
}

type rate struct{ packets, bits float64 }

func (r *peerRate) add(o *peerRate) {
	r.rx.packets += o.rx.packets
	r.rx.bits += o.rx.bits
	r.tx.packets += o.tx.packets
	r.tx.bits += o.tx.bits
	r.drops += o.drops
}

// ratesOf compares the counters of two times. A peer that is new, or whose counters went back with a restart of the daemon,
// began at 0.
func ratesOf(before, after api.Peers) []peerRate {
	type place struct {
		subnet   netip.Prefix
		endpoint netip.AddrPort
	}
	former := make(map[place]*api.Peer, len(before.Peers))
	for i := range before.Peers {
		p := &before.Peers[i]
		former[place{p.Subnet, p.Endpoint}] = p
	}
	seconds := after.Time.Sub(before.Time).Seconds()
	rates := make([]peerRate, len(after.Peers))
	for i := range after.Peers {
		p := &after.Peers[i]
		was := former[place{p.Subnet, p.Endpoint}]
		if was == nil || was.RxPackets > p.RxPackets || was.TxPackets > p.TxPackets {
			was = &api.Peer{}
		}
		per := func(from, to uint64) float64 {
			if seconds <= 0 || to < from {
				return 0
			}
			return float64(to-from) / seconds
		}
		rates[i] = peerRate{
			peer:  p,
			rx:    rate{per(was.RxPackets, p.RxPackets), 8 * per(was.RxBytes, p.RxBytes)},
			tx:    rate{per(was.TxPackets, p.TxPackets), 8 * per(was.TxBytes, p.TxBytes)},
			drops: per(was.Drops, p.Drops),
		}
	}
	return rates
}
