package main

import (
	"context"
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
				Flags:  append(etcdFlags(), jsonFlag()), // it is JSON anyhow
				Action: configGet,
			},
			{
				Name:      "set",
				Usage:     "validate a network config and write it to etcd",
				ArgsUsage: "JSON | FILE | -",
				Description: "Daemons follow the new config; what takes a restart is a problem in their\n" +
					"`twill status` until then. If somebody else changes the config meanwhile,\n" +
					"nothing is written.",
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
	_, err = fmt.Fprintf(c.App.Writer, "%s\n", network.JSON())
	return err
}

func configSet(c *cli.Context) error {
	raw, _, err := configArgument(c) // before etcd is asked at all
	if err != nil {
		return err
	}
	return askEtcd(c, func(ctx context.Context, r *subnet.Registry) error {
		s, err := r.Snapshot(ctx)
		if err != nil {
			return err
		}
		return r.ReplaceConfig(ctx, raw, s.ConfigRev)
	})
}

func configCheck(c *cli.Context) error {
	network, err := configToCheck(c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "valid: %d subnets of /%d, %s to %s\n", network.SubnetCount(), network.SubnetLen, network.SubnetMin, network.SubnetMax)
	return err
}

func configToCheck(c *cli.Context) (network subnet.Config, err error) {
	if !c.Args().Present() {
		return configInEtcd(c)
	}
	_, network, err = configArgument(c)
	return network, err
}

func configInEtcd(c *cli.Context) (network subnet.Config, err error) {
	err = askEtcd(c, func(ctx context.Context, r *subnet.Registry) error {
		s, err := r.Snapshot(ctx)
		if err == nil {
			network, err = s.ParseConfig()
		}
		return err
	})
	return network, err
}

// maxConfigSize bounds what is read, in bytes; a config has some hundred.
const maxConfigSize = 64 << 10

// configArgument reads and validates the config that the one argument is or
// names. Fields that twill does not know are kept, since Flannel may, but said:
// most of them are misspelt.
func configArgument(c *cli.Context) (raw []byte, network subnet.Config, err error) {
	if c.NArg() != 1 {
		return nil, network, usagef("%s wants one argument, %s, but got %d", c.Command.FullName(), c.Command.ArgsUsage, c.NArg())
	}
	if raw, err = readArgument(c.Args().First(), c.App.Reader); err != nil {
		return nil, network, err
	}
	if network, err = subnet.ParseConfig(raw); err != nil {
		return nil, network, err
	}
	for _, field := range subnet.UnknownFields(raw) {
		fmt.Fprintf(os.Stderr, "twill: field %.64q is not known to twill\n", field)
	}
	return raw, network, nil
}

func readArgument(arg string, stdin io.Reader) ([]byte, error) {
	if json.Valid([]byte(arg)) {
		return []byte(arg), nil
	}
	if arg != "-" {
		f, err := os.Open(arg)
		if errors.Is(err, os.ErrNotExist) {
			return nil, usagef("%q is neither JSON nor a file", arg)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	raw, err := io.ReadAll(io.LimitReader(stdin, maxConfigSize+1))
	if err == nil && len(raw) > maxConfigSize {
		err = fmt.Errorf("%s: more than the %d bytes that a network config may have", arg, maxConfigSize)
	}
	return raw, err
}
