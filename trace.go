package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/urfave/cli/v2"

	"twill/internal/api"
	"twill/internal/daemon"
	"twill/internal/terminal"
)

// defaultTrace is the length of ping(8)'s packet, in bytes.
const defaultTrace = 84

func traceCommand() *cli.Command {
	return &cli.Command{
		Name:      "trace",
		Usage:     "tell what would happen to a packet, step by step",
		ArgsUsage: "ADDRESS",
		Description: "Asks the kernel for the route, the firewall for its rules, and the daemon's packet\n" +
			"path itself for lease, peer, size and source of a packet to ADDRESS, and says where\n" +
			"it goes or what stops it. Nothing is sent; `twill ping` does that.\n\n" +
			"Exit code 0: this host sends the packet on, or delivers it here; 1: it does not.",
		Flags: []cli.Flag{
			runDirFlag(), jsonFlag(),
			&cli.StringFlag{Name: "from", DefaultText: "the first pod of this host", Usage: "source `ADDRESS` of the packet"},
			&cli.IntFlag{Name: "size", Value: defaultTrace, Usage: "its length in `BYTES`, headers and all"},
			&cli.BoolFlag{Name: "df", Value: true, Usage: "it must not be fragmented"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("trace: want one address, but got %d arguments", c.NArg())
			}
			to, err := netip.ParseAddr(c.Args().First())
			if err != nil || !to.Is4() {
				return usagef("trace: %q is not an IPv4 address", c.Args().First())
			}
			from, err := addrFlag(c, "from")
			if err != nil {
				return err
			}
			query := url.Values{"to": {to.String()}, "size": {strconv.Itoa(c.Int("size"))}, "df": {strconv.FormatBool(c.Bool("df"))}}
			if from.IsValid() {
				query.Set("from", from.String())
			}
			var trace api.Trace
			if err := api.Get(c.Context, daemon.SocketPath(c.String("run-dir")), api.TracePath+"?"+query.Encode(), &trace); err != nil {
				return err
			}
			if err := show(c, trace, func(t *terminal.Table) { traceRows(t, trace) }); err != nil {
				return err
			}
			if !trace.Passes {
				return exitStatus(exitFailed)
			}
			return nil
		},
	}
}

func traceRows(t *terminal.Table, trace api.Trace) {
	row := func(name, text string) {
		t.Row(terminal.Cell{Text: name, Style: terminal.Bold}, terminal.Text(text))
	}
	row("packet", fmt.Sprintf("%d bytes from %s to %s", trace.Size, trace.From, trace.To))
	for _, s := range trace.Steps {
		if s.OK {
			row(s.Step, s.Found)
		}
	}
	verdict := "verdict"
	if !trace.Passes {
		verdict = "stopped"
	}
	row(verdict, trace.Verdict)
	if trace.Remedy != "" {
		row("to do", trace.Remedy)
	}
}
