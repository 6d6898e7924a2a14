// Command twill joins container hosts into one flat IP network over UDP.
// See README.md; `twill help` lists the commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"twill/subnet"
)

// Exit codes, documented in README.md.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitFenced = 3 // this host's subnet belongs to another owner now
	// exitInterrupted is what a shell reports for SIGINT: 128 + 2.
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := newApp().RunContext(ctx, os.Args)
	stop()
	var status exitStatus
	if err != nil && !errors.As(err, &status) {
		fmt.Fprintln(os.Stderr, "twill:", err)
	}
	os.Exit(exitCode(err))
}

func newApp() *cli.App {
	app := &cli.App{
		Name:  "twill",
		Usage: "a userspace overlay that joins container hosts into one flat IP network",
		Commands: []*cli.Command{
			runCommand(),
			demoCommand(),
			leasesCommand(),
			peersCommand(),
			statusCommand(),
			configCommand(),
			dockerOptsCommand(),
			downCommand(),
			versionCommand(),
		},
		Action:         groupAction,
		OnUsageError:   onUsageError,
		ExitErrHandler: func(*cli.Context, error) {}, // main alone ends the process
		HideVersion:    true,
		Suggest:        true,
		// A comma is part of many a regular expression: lists are repeated flags.
		DisableSliceFlagSeparator: true,
	}
	strict(app.Commands)
	return app
}

// strict makes each command report a wrong flag in one line, and refuse
// arguments where its ArgsUsage names none.
func strict(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = onUsageError
		if len(c.Subcommands) > 0 {
			c.Action = groupAction
			strict(c.Subcommands)
			continue
		}
		if c.ArgsUsage == "" {
			c.ArgsUsage = " " // keeps the help from offering [arguments...]
			c.Before = noArguments
		}
	}
}

func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("%s takes no arguments, but got %q", c.Command.FullName(), c.Args().First())
	}
	return nil
}

// groupAction is reached where no subcommand of that name exists.
func groupAction(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowSubcommandHelp(c)
	}
	return usagef("unknown command %q; `twill help` lists the commands", c.Args().First())
}

// usageError is the caller's mistake: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func onUsageError(c *cli.Context, err error, _ bool) error {
	return usagef("%w; see `twill help %s`", err, c.Command.Name)
}

// exitStatus ends the program with that code and without a message: the reason
// has been said.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func exitCode(err error) int {
	var usage usageError
	var status exitStatus
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, subnet.ErrFenced):
		return exitFenced
	}
	return exitFailed
}
