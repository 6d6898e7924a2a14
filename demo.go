package main

import (
	"context"
	"errors"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"twill/internal/demo"
	"twill/internal/lab"
)

const defaultHosts = 3

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "show on this machine what twill does: hosts made of namespaces, each with a daemon",
		Description: "Needs no root and no other program: it runs in namespaces of its own, and\n" +
			"everything it makes is gone when it ends.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "hosts", Value: defaultHosts, Usage: "`NUMBER` of hosts"},
			&cli.BoolFlag{Name: "keep", Usage: "leave the hosts running until Ctrl-C, and say how to enter them"},
		},
		Action: func(c *cli.Context) error {
			if n := c.Int("hosts"); n < demo.MinHosts || n > demo.MaxHosts {
				return usagef("hosts: %d; want %d to %d", n, demo.MinHosts, demo.MaxHosts)
			}
			entered, code, err := lab.Enter()
			switch {
			case err != nil:
				return err
			case !entered && code != exitOK:
				return exitStatus(code) // the inner process has said why
			case !entered:
				return nil
			}
			err = demo.Run(c.Context, demo.Options{
				Hosts:    c.Int("hosts"),
				Keep:     c.Bool("keep"),
				Out:      c.App.Writer,
				Terminal: term.IsTerminal(int(os.Stdout.Fd())),
			})
			if errors.Is(err, context.Canceled) {
				return exitStatus(exitInterrupted)
			}
			return err
		},
	}
}
