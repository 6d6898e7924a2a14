package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/daemon"
	"twill/tunnel"
)

// defaultQueues is what more than gains nothing on the hosts measured so far.
const defaultQueues = 4

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "run the daemon",
		Description: "Holds a subnet lease in etcd, carries the packets of this host's pods to the\n" +
			"hosts that hold the other leases, and writes subnet.env. Each flag is also read\n" +
			"from the environment; the command line wins.",
		Flags: runFlags(),
		Action: func(c *cli.Context) error {
			cfg, err := daemonConfig(c)
			if err != nil {
				return err
			}
			for _, name := range unknownSettings(os.Environ(), c.Command.Flags) {
				cfg.Log.Warn("no setting has this name; `twill help run` lists them", "variable", name)
			}
			return daemon.Run(c.Context, cfg)
		},
	}
}

// runFlags are the daemon's settings.
func runFlags() []cli.Flag {
	return slices.Concat(etcdFlags(), networkFlags(), hostFlags(), daemonFlags())
}

// networkFlags concern the network and this host's lease in it.
func networkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "network", EnvVars: env("network"), Usage: "write a network config for `CIDR` to etcd if there is none"},
		&cli.BoolFlag{Name: "embed-etcd", EnvVars: env("embed-etcd"), Usage: "run an etcd in this process, for a first node or a lab, and use it"},
		&cli.StringFlag{Name: "embed-etcd-listen", Value: "127.0.0.1:2379", EnvVars: env("embed-etcd-listen"), Usage: "its client `ADDRESS:PORT`; there is no authentication"},
		&cli.StringFlag{Name: "node-name", EnvVars: env("node-name"), DefaultText: "the host name", Usage: "`NAME` of this host in the lease"},
		&cli.IntFlag{Name: "subnet-lease-renew-margin", Value: 60, EnvVars: flannelEnv("subnet-lease-renew-margin"), Usage: "renew the lease at the latest this many `MINUTES` before it expires"},
		&cli.DurationFlag{Name: "lease-grace", Value: time.Minute, EnvVars: env("lease-grace"), Usage: "`TIME` for which a peer whose lease vanished stays in use"},
	}
}

// hostFlags concern this host's interfaces, addresses and kernel state.
func hostFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "iface", EnvVars: flannelEnv("iface"), Usage: "underlay interface, by `NAME` or address; repeatable, the first that exists counts"},
		&cli.StringSliceFlag{Name: "iface-regex", EnvVars: flannelEnv("iface-regex"), Usage: "underlay interface by `REGEX` on name or address, after --iface; repeatable"},
		&cli.StringFlag{Name: "iface-can-reach", EnvVars: flannelEnv("iface-can-reach"), Usage: "underlay interface by the route to `ADDRESS`, after --iface-regex"},
		&cli.StringFlag{Name: "public-ip", EnvVars: flannelEnv("public-ip"), DefaultText: "the underlay address", Usage: "`ADDRESS` at which peers reach this host"},
		&cli.IntFlag{Name: "public-port", EnvVars: env("public-port"), DefaultText: "the port", Usage: "UDP `PORT` at which peers reach this host, where a NAT makes another one of --port; several hosts may then share a --public-ip"},
		&cli.IntFlag{Name: "port", EnvVars: env("port"), DefaultText: "the network config's", Usage: "UDP `PORT`"},
		tunNameFlag(),
		&cli.IntFlag{Name: "mtu", EnvVars: env("mtu"), DefaultText: "underlay MTU - 28", Usage: "MTU of the TUN device in `BYTES`"},
		&cli.IntFlag{Name: "queues", Value: min(runtime.NumCPU(), defaultQueues), DefaultText: fmt.Sprintf("one for each CPU, at most %d", defaultQueues), EnvVars: env("queues"), Usage: "`NUMBER` of TUN queues, each with a socket and two threads"},
		&cli.StringFlag{Name: "offload", Value: tunnel.AllOffloads.String(), EnvVars: env("offload"), Usage: "the kernel's offloads to use: auto, off, or a `LIST` of tso, uso, udp-segment, udp-gro"},
		&cli.StringFlag{Name: "spoof-check", Value: tunnel.SpoofStrict.String(), EnvVars: env("spoof-check"), Usage: "`HOW` the source of a packet is checked: strict, source (outer only) or off"},
		&cli.BoolFlag{Name: "directed-broadcast", EnvVars: env("directed-broadcast"), Usage: "let packets to the broadcast address of a peer's subnet out, and those to ours in; pods get them where net.ipv4.conf.*.bc_forwarding is on"},
		&cli.DurationFlag{Name: "probe-interval", Value: tunnel.DefaultProbeInterval, EnvVars: env("probe-interval"), Usage: "probe peers that run twill, in use, each `TIME`; 0: never"},
		&cli.BoolFlag{Name: "ip-masq", EnvVars: flannelEnv("ip-masq"), Usage: "masquerade what leaves the overlay"},
		&cli.BoolFlag{Name: "iptables-forward-rules", Value: true, EnvVars: flannelEnv("iptables-forward-rules"), Usage: "accept forwarded packets of the overlay, and drop what pods send to the tunnels of other hosts"},
		&cli.IntFlag{Name: "iptables-resync", Value: 5, EnvVars: flannelEnv("iptables-resync"), Usage: "check our iptables rules, address and route every so many `SECONDS`"},
		&cli.BoolFlag{Name: "set-sysctls", EnvVars: env("set-sysctls"), Usage: "set net.ipv4.ip_forward=1 if it is not"},
	}
}

// daemonFlags concern the process itself.
func daemonFlags() []cli.Flag {
	return []cli.Flag{
		runDirFlag(),
		stateDirFlag(),
		subnetFileFlag(),
		&cli.StringFlag{Name: "http-addr", EnvVars: env("http-addr"), DefaultText: "off", Usage: "`ADDRESS:PORT` of the status page, /healthz, /readyz and /metrics; :PORT is every address of the host"},
		&cli.StringSliceFlag{Name: "http-host", EnvVars: env("http-host"), Usage: "`NAME` by which clients of http-addr may call this host, beside its addresses, localhost and the node name; repeatable"},
		&cli.BoolFlag{Name: "metrics-per-peer", EnvVars: env("metrics-per-peer"), Usage: "add series for each peer to /metrics: some ten a peer"},
		&cli.StringFlag{Name: "healthz-ip", Value: "0.0.0.0", EnvVars: flannelEnv("healthz-ip"), Usage: "`ADDRESS` of /healthz and /readyz alone"},
		&cli.IntFlag{Name: "healthz-port", EnvVars: flannelEnv("healthz-port"), Usage: "their `PORT`; 0 is off"},
		&cli.StringFlag{Name: "log-level", Value: "info", EnvVars: env("log-level"), Usage: "`LEVEL`: debug, info, warn or error"},
		&cli.StringFlag{Name: "log-format", Value: "text", EnvVars: env("log-format"), Usage: "`FORMAT`: text or json"},
	}
}

// daemonConfig turns the flags into a validated daemon.Config.
func daemonConfig(c *cli.Context) (daemon.Config, error) {
	cfg := daemon.Config{
		EmbedEtcd:     c.Bool("embed-etcd"),
		NodeName:      c.String("node-name"),
		RenewMargin:   time.Duration(c.Int("subnet-lease-renew-margin")) * time.Minute,
		LeaseGrace:    c.Duration("lease-grace"),
		Broadcast:     c.Bool("directed-broadcast"),
		ProbeInterval: c.Duration("probe-interval"),
		TunName:       c.String("tun-name"),
		MTU:           c.Int("mtu"),
		Queues:        c.Int("queues"),
		RunDir:        c.String("run-dir"),
		StateDir:      c.String("state-dir"),
		SubnetFile:    c.String("subnet-file"),
		IPMasq:        c.Bool("ip-masq"),
		ForwardRules:  c.Bool("iptables-forward-rules"),
		Resync:        time.Duration(c.Int("iptables-resync")) * time.Second,
		SetSysctls:    c.Bool("set-sysctls"),
		HTTPHosts:     c.StringSlice("http-host"),
		PeerMetrics:   c.Bool("metrics-per-peer"),
		Version:       version(),
	}
	for _, parse := range []func(*cli.Context, *daemon.Config) error{
		parseEtcd, parseNetwork, parseUnderlay, parseHost, parseHealthz, parseHTTP, parseLog,
	} {
		if err := parse(c, &cfg); err != nil {
			return daemon.Config{}, err
		}
	}
	if err := cfg.Validate(); err != nil {
		return daemon.Config{}, usageError{err}
	}
	return cfg, nil
}

func parseEtcd(c *cli.Context, cfg *daemon.Config) (err error) {
	if cfg.Etcd, err = etcdConfig(c); err != nil {
		return err
	}
	if cfg.EmbedEtcd && c.IsSet("etcd-endpoints") {
		return usagef("embed-etcd and etcd-endpoints exclude each other: the daemon uses the etcd that it runs")
	}
	listen := c.String("embed-etcd-listen")
	if cfg.EmbedEtcdListen, err = netip.ParseAddrPort(listen); err != nil {
		return usagef("embed-etcd-listen: %q is not ADDRESS:PORT", listen)
	}
	return nil
}

func parseNetwork(c *cli.Context, cfg *daemon.Config) (err error) {
	if s := c.String("network"); s != "" {
		if cfg.Network, err = netip.ParsePrefix(s); err != nil {
			return usagef("network: %q is not a CIDR as 10.5.0.0/16", s)
		}
	}
	return nil
}

func parseUnderlay(c *cli.Context, cfg *daemon.Config) (err error) {
	cfg.Underlay.Ifaces = c.StringSlice("iface")
	for _, s := range c.StringSlice("iface-regex") {
		re, err := regexp.Compile(s)
		if err != nil {
			return usagef("iface-regex: %w", err)
		}
		cfg.Underlay.Regexes = append(cfg.Underlay.Regexes, re)
	}
	cfg.Underlay.CanReach, err = addrFlag(c, "iface-can-reach")
	return err
}

func parseHost(c *cli.Context, cfg *daemon.Config) (err error) {
	if cfg.PublicIP, err = addrFlag(c, "public-ip"); err != nil {
		return err
	}
	if cfg.Port, err = portFlag(c, "port"); err != nil {
		return err
	}
	if cfg.PublicPort, err = portFlag(c, "public-port"); err != nil {
		return err
	}
	if cfg.SpoofCheck, err = tunnel.ParseSpoofCheck(c.String("spoof-check")); err != nil {
		return usagef("spoof-check: %w", err)
	}
	if cfg.Offloads, err = tunnel.ParseOffloads(c.String("offload")); err != nil {
		return usageError{err}
	}
	if cfg.NodeName == "" {
		if cfg.NodeName, err = os.Hostname(); err != nil {
			return fmt.Errorf("host name: %w; give --node-name", err)
		}
	}
	return nil
}

func parseHealthz(c *cli.Context, cfg *daemon.Config) error {
	ip, err := netip.ParseAddr(c.String("healthz-ip"))
	if err != nil {
		return usagef("healthz-ip: %q is not an address", c.String("healthz-ip"))
	}
	port, err := portFlag(c, "healthz-port")
	cfg.Healthz = netip.AddrPortFrom(ip, port)
	return err
}

func parseHTTP(c *cli.Context, cfg *daemon.Config) (err error) {
	s := c.String("http-addr")
	if s == "" {
		return nil
	}
	if strings.HasPrefix(s, ":") {
		var port uint64
		port, err = strconv.ParseUint(s[1:], 10, 16)
		cfg.HTTP = netip.AddrPortFrom(netip.Addr{}, uint16(port))
	} else {
		cfg.HTTP, err = netip.ParseAddrPort(s)
	}
	if err != nil || cfg.HTTP.Port() == 0 {
		return usagef("http-addr: %q; want ADDRESS:PORT, as 127.0.0.1:8286 or [::1]:8286, or :PORT for every address, with a port from 1 to 65535", s)
	}
	return nil
}

func parseLog(c *cli.Context, cfg *daemon.Config) (err error) {
	cfg.LogLevel = new(slog.LevelVar)
	cfg.Log, err = newLogger(c, cfg.LogLevel)
	return err
}
