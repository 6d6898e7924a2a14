package main

import (
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
			"written.",
		UseShortOptionHandling: true, // -ic, as getopts has it
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "f", Value: filepath.Join(defaultRunDir, "subnet.env"), Usage: "read `FILE`"},
			&cli.StringFlag{Name: "d", Value: filepath.Join(defaultRunDir, "docker"), Usage: "write `FILE`"},
			&cli.BoolFlag{Name: "i", Usage: "write individual options; neither -i nor -c means both"},
			&cli.BoolFlag{Name: "c", Usage: "write the combined options"},
			&cli.StringFlag{Name: "k", Value: dockeropts.DefaultKey, Usage: "write the combined options to variable `KEY`"},
			&cli.BoolFlag{Name: "m", Usage: "leave out --ip-masq"},
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
			return dockeropts.Run(o, os.Getenv)
		},
	}
}
