package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/api"
	"twill/internal/daemon"
)

func peersCommand() *cli.Command {
	return &cli.Command{
		Name:  "peers",
		Usage: "list the peers of the daemon that runs here",
		Flags: []cli.Flag{runDirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			var peers api.Peers
			if err := api.Get(c.Context, daemon.SocketPath(c.String("run-dir")), api.PeersPath, &peers); err != nil {
				return err
			}
			return show(c, peers, func(t *table) { peerRows(t, peers, time.Now()) })
		},
	}
}

func peerRows(t *table, peers api.Peers, now time.Time) {
	t.row("SUBNET", "ENDPOINT", "NODE", "STATE", "RTT", "LOSS", "PATH MTU", "LAST SEEN",
		"RX PACKETS", "RX BYTES", "TX PACKETS", "TX BYTES", "DROPS", "REASON")
	for _, p := range peers.Peers {
		t.row(p.Subnet.String(), p.Endpoint.String(), p.Node, string(p.State), rttCell(p.RTT), lossCell(p), fmt.Sprint(p.PathMTU), agoCell(p.LastSeen, now),
			number(p.RxPackets), number(p.RxBytes), number(p.TxPackets), number(p.TxBytes), number(p.Drops), p.Reason)
	}
}

func rttCell(rtt *api.RTT) string {
	if rtt == nil {
		return ""
	}
	return fmt.Sprintf("%.2f ms", 1000*rtt.Smoothed)
}

// lossCell tells the loss of probes, and where packets were lost in which
// direction.
func lossCell(p api.Peer) string {
	cell := ""
	if p.Loss != nil {
		cell = fmt.Sprintf("%.0f%%", 100**p.Loss)
	}
	out, in := 0.0, 0.0
	if p.LossOut != nil {
		out = 100 * *p.LossOut
	}
	if p.LossIn != nil {
		in = 100 * *p.LossIn
	}
	if out+in > 0 {
		cell += fmt.Sprintf(" (out %.1f%%, in %.1f%%)", out, in)
	}
	return cell
}

func agoCell(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return now.Sub(t).Round(time.Second).String() + " ago"
}
