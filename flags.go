package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/daemon"
	"twill/internal/journal"
	"twill/subnet"
)

const (
	defaultRunDir   = "/run/twill"
	defaultStateDir = "/var/lib/twill"
	defaultTunName  = "twill0"
	defaultPrefix   = "/coreos.com/network"
	defaultEndpoint = "http://127.0.0.1:2379"
)

// settingPrefix begins the environment variables of twill's own.
const settingPrefix = "TWILL_"

// env names the environment variable of a flag of twill's own.
func env(flag string) []string { return []string{settingPrefix + envName(flag)} }

// flannelEnv names those of a flag that Flannel has too.
func flannelEnv(flag string) []string {
	return []string{settingPrefix + envName(flag), "FLANNELD_" + envName(flag)}
}

func envName(flag string) string { return strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) }

func etcdFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "etcd-endpoints", Value: defaultEndpoint, EnvVars: flannelEnv("etcd-endpoints"), Usage: "comma-separated `URLs` of etcd"},
		&cli.StringFlag{Name: "etcd-prefix", Value: defaultPrefix, EnvVars: flannelEnv("etcd-prefix"), Usage: "`PREFIX` of all keys in etcd"},
		&cli.StringFlag{Name: "etcd-cafile", EnvVars: flannelEnv("etcd-cafile"), Usage: "PEM `FILE` of the CA that signed etcd's certificate"},
		&cli.StringFlag{Name: "etcd-certfile", EnvVars: flannelEnv("etcd-certfile"), Usage: "PEM `FILE` of the client certificate"},
		&cli.StringFlag{Name: "etcd-keyfile", EnvVars: flannelEnv("etcd-keyfile"), Usage: "PEM `FILE` of its key"},
		&cli.StringFlag{Name: "etcd-username", EnvVars: flannelEnv("etcd-username"), Usage: "`USER` to log in as"},
		&cli.StringFlag{Name: "etcd-password", EnvVars: flannelEnv("etcd-password"), Usage: "its `PASSWORD`; better in a file or the environment, where ps does not show it"},
		&cli.StringFlag{Name: "etcd-password-file", EnvVars: env("etcd-password-file"), Usage: "`FILE` with the password in its first line, read again when it changes"},
	}
}

// etcdConfig turns the flags into a validated subnet.EtcdConfig.
func etcdConfig(c *cli.Context) (subnet.EtcdConfig, error) {
	cfg := subnet.EtcdConfig{
		Endpoints: splitList(c.String("etcd-endpoints")),
		Prefix:    c.String("etcd-prefix"),
		CAFile:    c.String("etcd-cafile"),
		CertFile:  c.String("etcd-certfile"),
		KeyFile:   c.String("etcd-keyfile"),
		Username:  c.String("etcd-username"),
		Password:  subnet.Secret(c.String("etcd-password")),

		PasswordFile: c.String("etcd-password-file"),
	}
	if err := cfg.Validate(); err != nil {
		return subnet.EtcdConfig{}, usageError{err}
	}
	return cfg, nil
}

// askTimeout bounds a command that asks etcd once.
const askTimeout = 10 * time.Second

// askEtcd calls ask with a connection to etcd, for a command that asks once.
func askEtcd(c *cli.Context, ask func(context.Context, *subnet.Registry) error) error {
	cfg, err := etcdConfig(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, askTimeout)
	defer cancel()
	r, err := subnet.Dial(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err == nil {
		defer r.Close()
		err = ask(ctx, r)
	}
	if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("etcd at %s gave no answer in %v", c.String("etcd-endpoints"), askTimeout)
	}
	return err
}

func runDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "run-dir", Value: defaultRunDir, EnvVars: env("run-dir"), Usage: "`DIR` of the control socket and subnet.env"}
}

func stateDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "state-dir", Value: defaultStateDir, EnvVars: env("state-dir"), Usage: "`DIR` of what must outlive a reboot: the node id, the embedded etcd's data"}
}

func tunNameFlag() cli.Flag {
	return &cli.StringFlag{Name: "tun-name", Value: defaultTunName, EnvVars: env("tun-name"), Usage: "`NAME` of the TUN device"}
}

func subnetFileFlag() cli.Flag {
	return &cli.StringFlag{Name: "subnet-file", EnvVars: flannelEnv("subnet-file"), DefaultText: "subnet.env in the run-dir", Usage: "`FILE` for the subnet and MTU"}
}

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON"} }

func splitList(s string) []string {
	var list []string
	for e := range strings.SplitSeq(s, ",") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}

// addrFlag reads an address; an empty flag is the zero Addr.
func addrFlag(c *cli.Context, name string) (netip.Addr, error) {
	s := c.String(name)
	if s == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is4() {
		return netip.Addr{}, usagef("%s: %q is not an IPv4 address", name, s)
	}
	return addr, nil
}

func portFlag(c *cli.Context, name string) (uint16, error) {
	n := c.Int(name)
	if n < 0 || n > 65535 {
		return 0, usagef("%s: %d is not a port; want 0 to 65535", name, n)
	}
	return uint16(n), nil
}

// newLogger returns the daemon's, whose level is level's.
func newLogger(c *cli.Context, level *slog.LevelVar) (*slog.Logger, error) {
	first, err := daemon.ParseLogLevel(c.String("log-level"))
	if err != nil {
		return nil, usageError{err}
	}
	level.Set(first)
	opts := &slog.HandlerOptions{Level: level}
	switch f := c.String("log-format"); f {
	case "text":
		if journal.IsStderr() {
			return slog.New(journal.NewHandler(os.Stderr, level)), nil
		}
		return slog.New(slog.NewTextHandler(os.Stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), nil
	default:
		return nil, usagef("log-format: %q; want text or json", f)
	}
}
