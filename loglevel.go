package main

import (
	"net/url"

	"github.com/urfave/cli/v2"

	"twill/internal/api"
	"twill/internal/daemon"
	"twill/internal/terminal"
)

func logLevelCommand() *cli.Command {
	return &cli.Command{
		Name:      "log-level",
		Usage:     "show or change how much the daemon that runs here logs",
		ArgsUsage: "[debug|info|warn|error]",
		Description: "Without an argument it prints the level. With one it changes it, at once and until\n" +
			"the daemon ends: the next start takes that of its --log-level. Who may ask the daemon\n" +
			"may change it, and the change is logged.",
		Flags: []cli.Flag{runDirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usagef("log-level takes one level, but got %q", c.Args().Slice())
			}
			var now api.LogLevel
			socket := daemon.SocketPath(c.String("run-dir"))
			if !c.Args().Present() {
				if err := api.Get(c.Context, socket, api.LogLevelPath, &now); err != nil {
					return err
				}
			} else {
				if _, err := daemon.ParseLogLevel(c.Args().First()); err != nil {
					return usageError{err}
				}
				path := api.LogLevelPath + "?level=" + url.QueryEscape(c.Args().First())
				if err := api.Put(c.Context, socket, path, &now); err != nil {
					return err
				}
			}
			return show(c, now, func(t *terminal.Table) { t.Row(terminal.Text(now.Level)) })
		},
	}
}
