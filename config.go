package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"twill/subnet"
)

func configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "get, set or check the network config in etcd",
		Subcommands: []*cli.Command{
			{
				Name:   "get",
				Usage:  "print the network config, with its defaults filled in",
				Flags:  etcdFlags(),
				Action: configGet,
			},
			{
				Name:      "set",
				Usage:     "validate a network config and write it to etcd",
				ArgsUsage: "JSON | FILE | -",
				Description: "Hosts use the new config when they start the next time. If somebody else\n" +
					"changes the config meanwhile, nothing is written.",
				Flags:  etcdFlags(),
				Action: configSet,
			},
			{
				Name:        "check",
				Usage:       "validate a network config: the one in etcd, or that of the argument",
				ArgsUsage:   "[JSON | FILE | -]",
				Description: "Exit code 0: valid. 1: not, and why on stderr.",
				Flags:       etcdFlags(),
				Action:      configCheck,
			},
		},
	}
}

func configGet(c *cli.Context) error {
	network, err := configInEtcd(c)
	if err != nil {
		return err
	}
	return printConfig(c, network)
}

func configSet(c *cli.Context) error {
	raw, err := configArgument(c)
	if err != nil {
		return err
	}
	if _, err := subnet.ParseConfig(raw); err != nil {
		return err // before etcd is asked at all
	}
	r, err := dialEtcd(c)
	if err != nil {
		return err
	}
	defer r.Close()
	s, err := r.Snapshot(c.Context)
	if err != nil {
		return err
	}
	return r.ReplaceConfig(c.Context, raw, s.ConfigRev)
}

func configCheck(c *cli.Context) error {
	network, err := configToCheck(c)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "valid: %d subnets of /%d, %s to %s\n", network.SubnetCount(), network.SubnetLen, network.SubnetMin, network.SubnetMax)
	return nil
}

func configToCheck(c *cli.Context) (subnet.Config, error) {
	if !c.Args().Present() {
		return configInEtcd(c)
	}
	raw, err := configArgument(c)
	if err != nil {
		return subnet.Config{}, err
	}
	return subnet.ParseConfig(raw)
}

func configInEtcd(c *cli.Context) (subnet.Config, error) {
	if c.Args().Present() {
		return subnet.Config{}, usagef("%s takes no arguments, but got %q", c.Command.FullName(), c.Args().First())
	}
	r, err := dialEtcd(c)
	if err != nil {
		return subnet.Config{}, err
	}
	defer r.Close()
	s, err := r.Snapshot(c.Context)
	if err != nil {
		return subnet.Config{}, err
	}
	return s.ParseConfig()
}

// maxConfigSize bounds what is read, in bytes; a config has some hundred.
const maxConfigSize = 64 << 10

// configArgument reads the config that the one argument is or names.
func configArgument(c *cli.Context) ([]byte, error) {
	if c.NArg() != 1 {
		return nil, usagef("%s wants one argument, %s, but got %d", c.Command.FullName(), c.Command.ArgsUsage, c.NArg())
	}
	return readArgument(c.Args().First(), c.App.Reader)
}

func readArgument(arg string, stdin io.Reader) ([]byte, error) {
	switch {
	case arg == "-":
		return io.ReadAll(io.LimitReader(stdin, maxConfigSize))
	case json.Valid([]byte(arg)):
		return []byte(arg), nil
	}
	raw, err := os.ReadFile(arg)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usagef("%q is neither JSON nor a file", arg)
	}
	return raw, err
}

func printConfig(c *cli.Context, network subnet.Config) error {
	_, err := fmt.Fprintf(c.App.Writer, "%s\n", network.JSON())
	return err
}
