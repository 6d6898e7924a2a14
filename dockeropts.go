package main

import (
	"log/slog"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"twill/internal/dockeropts"
)

func dockerOptsCommand() *cli.Command {
	return &cli.Command{
		Name:  "docker-opts",
		Usage: "turn subnet.env into Docker's --bip, --mtu and --ip-masq",
		Description: "Takes the flags of Flannel's mk-docker-opts.sh and writes the same file, but in\n" +
			"one step or not at all. Exit code 1: there is no subnet, or the file cannot be\n" +
			"written. Docker's unit runs it with --wait before dockerd, which so never starts\n" +
			"on another subnet.",
		UseShortOptionHandling: true, // -ic, as getopts has it
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "f", Value: filepath.Join(defaultRunDir, "subnet.env"), EnvVars: flannelEnv("subnet-file"), Usage: "read `FILE`"},
			&cli.StringFlag{Name: "d", Value: filepath.Join(defaultRunDir, "docker"), Usage: "write `FILE`"},
			&cli.BoolFlag{Name: "i", Usage: "write individual options; neither -i nor -c means both"},
			&cli.BoolFlag{Name: "c", Usage: "write the combined options"},
			&cli.StringFlag{Name: "k", Value: dockeropts.DefaultKey, Usage: "write the combined options to variable `KEY`"},
			&cli.BoolFlag{Name: "m", Usage: "leave out --ip-masq"},
			&cli.BoolFlag{Name: "wait", Usage: "wait until there is a subnet"},
			&cli.StringFlag{Name: "daemon-json", Usage: "fail if Docker's `FILE` of settings has one of these options too: dockerd would refuse both"},
		},
		Action: func(c *cli.Context) error {
			o := dockeropts.Options{
				EnvFile:    c.String("f"),
				Output:     c.String("d"),
				Individual: c.Bool("i"),
				Combined:   c.Bool("c"),
				Key:        c.String("k"),
				NoIPMasq:   c.Bool("m"),
			}
			if err := o.Validate(); err != nil {
				return usageError{err}
			}
			if path := c.String("daemon-json"); path != "" {
				if err := dockeropts.CheckDaemonJSON(path, o); err != nil {
					return err
				}
			}
			if c.Bool("wait") {
				say := func(line string) { complain(slog.LevelInfo, line) }
				if err := dockeropts.WaitForEnv(c.Context, o.EnvFile, say); err != nil {
					return err
				}
			}
			return dockeropts.Run(o, os.Getenv)
		},
	}
}
