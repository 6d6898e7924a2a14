package main

import (
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
	t.row("SUBNET", "ENDPOINT", "NODE", "STATE", "LAST SEEN", "RX PACKETS", "RX BYTES", "TX PACKETS", "TX BYTES", "DROPS")
	for _, p := range peers.Peers {
		t.row(p.Subnet.String(), p.Endpoint.String(), p.Node, string(p.State), agoCell(p.LastSeen, now),
			number(p.RxPackets), number(p.RxBytes), number(p.TxPackets), number(p.TxBytes), number(p.Drops))
	}
}

func agoCell(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return now.Sub(t).Round(time.Second).String() + " ago"
}
