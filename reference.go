package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"twill/internal/clidoc"
)

//go:generate go run . reference docs/reference.md

// files are those that twill reads and makes, for the reference; with the default directories.
var files = []clidoc.File{
	{Path: filepath.Join(defaultRunDir, "subnet.env"), Meaning: "network, subnet, MTU and masquerading, in Flannel's format; written in one step, before systemd is told READY"},
	{Path: filepath.Join(defaultRunDir, "docker"), Meaning: "Docker's options, where twill docker-opts was run"},
	{Path: filepath.Join(defaultRunDir, "last-end"), Meaning: "why the last run of the daemon ended, if that was an error; twill status and check tell it"},
	{Path: filepath.Join(defaultRunDir, "twill.sock"), Meaning: "control socket, mode 0660; answers root, the daemon's own user and members of the socket's group"},
	{Path: filepath.Join(defaultStateDir, "node-id"), Meaning: "by which this host finds its lease again"},
	{Path: filepath.Join(defaultStateDir, "cache.json"), Meaning: "lease, peers and network config, for a start without etcd"},
	{Path: filepath.Join(defaultStateDir, "etcd"), Meaning: "the data of --embed-etcd: every host's leases"},
	{Path: "/etc/default/twill", Meaning: "the service's settings on Debian: one VARIABLE=value a line"},
	{Path: "/etc/sysconfig/twill", Meaning: "the same on Red Hat"},
}

const referenceIntro = `<!-- Written by "make generate" from the commands themselves. Change those. -->

Every command with its options, the exit codes, and the files. Where the package is installed, the manual pages say the same:
twill(1) lists them.

Options are read from the command line, else from the environment; the command line wins. Commands that speak of this host's daemon or
its etcd also read the service's settings, for what neither says. Variables that begin with FLANNELD_ are Flannel's own names. Data goes
to stdout, messages to stderr.`

func writeReference(w io.Writer) error {
	return clidoc.Markdown(w, clidoc.Reference{
		Program: clidoc.Program(newApp()),
		Intro:   referenceIntro,
		Shared:  clidoc.NewGroup("Options for etcd", etcdFlags()),
		Like:    "twill run",
		Exits:   exits,
		Files:   files,
	})
}

// referenceCommand is for go generate.
func referenceCommand() *cli.Command {
	return &cli.Command{
		Name:      "reference",
		Usage:     "write the reference of all commands into a file",
		ArgsUsage: "FILE",
		Hidden:    true,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("reference: want one argument: the file")
			}
			f, err := os.Create(c.Args().First())
			if err != nil {
				return err
			}
			defer f.Close()
			if err := writeReference(f); err != nil {
				return err
			}
			return f.Close()
		},
	}
}
