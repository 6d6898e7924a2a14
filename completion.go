package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"twill/internal/clidoc"
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:        "completion",
		Usage:       "print a shell's completion for twill: bash, zsh or fish",
		ArgsUsage:   "bash|zsh|fish",
		Description: "The packages install it. By hand, for bash:\n\n  . <(twill completion bash)",
		Action: func(c *cli.Context) error {
			program := clidoc.Program(newApp())
			switch shell := c.Args().First(); {
			case c.NArg() != 1:
				return usagef("completion: want one argument: bash, zsh or fish")
			case shell == "bash":
				return clidoc.Bash(c.App.Writer, program)
			case shell == "zsh":
				return clidoc.Zsh(c.App.Writer, program)
			case shell == "fish":
				return clidoc.Fish(c.App.Writer, program)
			default:
				return usagef("completion: %q: want bash, zsh or fish", shell)
			}
		},
	}
}

// exits are the program's exit codes for the manual pages.
var exits = []clidoc.Exit{
	{Code: exitOK, Meaning: "Done; the daemon was told to stop."},
	{Code: exitFailed, Meaning: "Failed; the message says why. Of twill status also: the daemon is degraded."},
	{Code: exitUsage, Meaning: "Wrong usage. Of twill status also: no daemon runs."},
	{Code: exitFenced, Meaning: "The daemon stopped because its subnet belongs to another host now."},
	{Code: exitInterrupted, Meaning: "Interrupted, except for the daemon."},
}

// otherPages are the manual pages that are written by hand.
var otherPages = []string{"twill.service(8)", "twill-config(5)", "twill-subnet.env(5)"}

// manCommand is for packaging/build.
func manCommand() *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "write the manual pages of twill and its commands into a directory",
		ArgsUsage: "DIR",
		Hidden:    true,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("man: want one argument: the directory")
			}
			program := clidoc.Program(newApp())
			for _, page := range append(program.Commands, program) {
				if err := writeManPage(c.Args().First(), page); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func writeManPage(dir string, page clidoc.Page) error {
	f, err := os.Create(filepath.Join(dir, page.Name()+".1"))
	if err != nil {
		return err
	}
	defer f.Close()
	seeAlso := otherPages
	if len(page.Path) > 1 {
		seeAlso = append([]string{"twill(1)"}, otherPages...)
	}
	if err := clidoc.Man(f, page, version(), exits, seeAlso); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return f.Close()
}
