// Command twill joins container hosts into one flat IP network over UDP.
// See README.md; `twill help` lists the commands.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"twill/internal/journal"
	"twill/subnet"
)

// Exit codes, documented in docs/reference.md by way of exits.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitFenced = 3 // this host's subnet belongs to another owner now
	// exitInterrupted is what a shell reports for SIGINT: 128 + 2.
	exitInterrupted = 130
)

func main() {
	loadSettings(os.Args, settingsFiles, func(message string) { complain(slog.LevelWarn, message) })
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := newApp().RunContext(ctx, os.Args)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = exitStatus(exitInterrupted)
	}
	stop()
	var status exitStatus
	if err != nil && !errors.As(err, &status) {
		complain(slog.LevelError, err.Error())
		if len(os.Args) > 1 && os.Args[1] == "run" {
			showInStatus(err)
		}
	}
	os.Exit(exitCode(err))
}

// complain writes a message to stderr. The journal wants a priority and knows the program.
func complain(level slog.Level, message string) {
	prefix := "twill: "
	if journal.IsStderr() {
		prefix = journal.Prefix(level)
		message = strings.ReplaceAll(message, "\n", "\n"+prefix) // which has one for each line
	}
	fmt.Fprintln(os.Stderr, prefix+message)
}

// showInStatus makes the reason the status line of a failed unit. Without systemd it does nothing.
func showInStatus(err error) {
	line, _, _ := strings.Cut(err.Error(), "\n")
	_, _ = systemd.SdNotify(false, "STATUS="+line) // stderr has it anyway
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
			topCommand(),
			pingCommand(),
			traceCommand(),
			logLevelCommand(),
			configCommand(),
			dockerOptsCommand(),
			downCommand(),
			checkCommand(),
			completionCommand(),
			manCommand(),
			referenceCommand(),
			versionCommand(),
			helpCommand(),
		},
		Flags:           []cli.Flag{cli.HelpFlag}, // cli leaves it out where there is a help command
		Action:          groupAction,
		OnUsageError:    onUsageError,
		ExitErrHandler:  func(*cli.Context, error) {}, // main alone ends the process
		HideVersion:     true,
		HideHelpCommand: true, // ours knows subcommands
		Suggest:         true,
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
		c.HideHelpCommand = true
		if len(c.Subcommands) > 0 {
			c.Action = groupAction
			strict(c.Subcommands)
			continue
		}
		switch {
		case c.ArgsUsage == "":
			c.ArgsUsage = " " // keeps the help from offering [arguments...]
			c.Before = noArguments
		case c.Before == nil:
			c.Before = noLateFlags
		}
	}
}

func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("%s takes no arguments, but got %q", c.Command.FullName(), c.Args().First())
	}
	return nil
}

// noLateFlags explains what would otherwise look like wrong arguments.
func noLateFlags(c *cli.Context) error {
	for _, arg := range c.Args().Slice() {
		if len(arg) > 1 && strings.HasPrefix(arg, "-") {
			return usagef("%s: flags go before the arguments, but %q comes after one", c.Command.FullName(), arg)
		}
	}
	return nil
}

// groupAction is reached where no subcommand of that name exists.
func groupAction(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowSubcommandHelp(c)
	}
	return unknownCommand(c.Args().First())
}

func unknownCommand(name string) error {
	return usagef("unknown command %q; `twill help` lists the commands", name)
}

func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "explain twill or one of its commands",
		ArgsUsage: "[command]",
		Action: func(c *cli.Context) error {
			commands := c.App.Commands
			for _, name := range c.Args().Slice() {
				i := slices.IndexFunc(commands, func(command *cli.Command) bool { return command.Name == name })
				if i < 0 {
					return unknownCommand(name)
				}
				commands = commands[i].Subcommands
			}
			line := append([]string{c.App.Name}, c.Args().Slice()...)
			return c.App.RunContext(c.Context, append(line, "--help"))
		},
	}
}

// usageError is the caller's mistake: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func onUsageError(c *cli.Context, err error, _ bool) error {
	return usagef("%w; see `%s --help`", err, cmp.Or(c.Command.HelpName, c.App.Name))
}

// exitStatus ends the program with that code and without a message: the reason
// has been said.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func exitCode(err error) int {
	var usage usageError
	var status exitStatus
	var stopped notRunning
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &stopped):
		return exitNotRunning
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, subnet.ErrFenced):
		return exitFenced
	}
	return exitFailed
}
