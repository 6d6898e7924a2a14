package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"twill/internal/embedetcd"
	"twill/routes"
	"twill/subnet"
	"twill/tunnel"
)

var noSubnet netip.Prefix

// start brings everything up in this order; each step leaves its undoing
// behind. Nothing is written before all that can be checked has been.
func (d *daemon) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.claimRunDir,
		d.checkForwarding,
		d.findUnderlay,
		d.startEtcd,
		d.configure,
		d.acquire,
		d.openTunnel,
		d.applyLink,
		d.applyFirewall,
		d.firstTable,
		d.listenControl,
		d.writeSubnetFile,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// claimRunDir makes the run directory and locks it against a second daemon.
func (d *daemon) claimRunDir(context.Context) error {
	if err := os.MkdirAll(d.RunDir, 0o755); err != nil {
		return fmt.Errorf("run-dir: %w", err)
	}
	lock, err := lockDir(d.RunDir)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("run-dir %s is in use by another twill; give each its own --run-dir, --state-dir and --tun-name", d.RunDir)
	}
	if err != nil {
		return fmt.Errorf("run-dir: %w", err)
	}
	d.lock = lock // held until the process ends
	return nil
}

func (d *daemon) checkForwarding(context.Context) error {
	on, err := routes.ForwardingEnabled()
	if err != nil || on {
		return err
	}
	if !d.SetSysctls {
		return errors.New("net.ipv4.ip_forward is 0, so this host would not pass the pods' packets on: run `sysctl -w net.ipv4.ip_forward=1`, or start twill with --set-sysctls")
	}
	if err := routes.EnableForwarding(); err != nil {
		return err
	}
	d.Log.Info("set net.ipv4.ip_forward=1")
	return nil
}

func (d *daemon) findUnderlay(context.Context) (err error) {
	if d.underlay, err = routes.FindUnderlay(d.Underlay); err != nil {
		return err
	}
	if !d.PublicIP.IsValid() {
		d.PublicIP = d.underlay.Addr
	}
	d.Log.Info("underlay", "interface", d.underlay.Name, "address", d.underlay.Addr, "public-ip", d.PublicIP, "mtu", d.underlay.MTU)
	return nil
}

func (d *daemon) startEtcd(ctx context.Context) (err error) {
	if !d.EmbedEtcd {
		return nil
	}
	d.etcd, err = embedetcd.Start(ctx, embedetcd.Config{Dir: etcdDir(d.StateDir), Listen: d.EmbedEtcdListen, Log: d.Log})
	if err != nil {
		return err
	}
	d.onUndo(func(context.Context) { d.etcd.Close() })
	d.Etcd.Endpoints = []string{d.etcd.Endpoint()}
	d.Log.Info("embedded etcd serves", "endpoint", d.etcd.Endpoint())
	return nil
}

// configure learns the network and checks it against this host.
func (d *daemon) configure(ctx context.Context) error {
	id, err := subnet.LoadNodeID(d.StateDir)
	if err != nil {
		return err
	}
	if d.registry, err = subnet.Dial(ctx, d.Etcd, d.Log); err != nil {
		return err
	}
	d.manager = subnet.NewManager(d.registry, subnet.Options{
		Identity:    subnet.Identity{NodeID: id, Node: d.NodeName, PublicIP: d.PublicIP, Port: d.Port},
		Previous:    d.previousSubnet(),
		RenewMargin: d.RenewMargin,
		Grace:       d.LeaseGrace,
		Log:         d.Log,
		Publish:     d.publish,
	})
	var initial *subnet.Config
	if d.Network.IsValid() {
		c, err := subnet.DefaultConfig(d.Network)
		if err != nil {
			return fmt.Errorf("network: %w", err)
		}
		if d.Port != 0 {
			c.Port = d.Port
		}
		initial = &c
	}
	if d.network, err = d.manager.Configure(ctx, initial); err != nil {
		return err
	}
	if d.Network.IsValid() && d.network.Network != d.Network {
		d.Log.Warn("etcd already holds a network config, which wins over --network", "network", d.network.Network, "asked", d.Network)
	}
	if d.network.IPv6Ignored() {
		d.Log.Warn("the network config asks for IPv6 too; twill carries IPv4 only")
	}
	if d.network.Network.Contains(d.PublicIP) {
		return fmt.Errorf("public-ip %s lies inside Network %s: the underlay and the overlay must not overlap", d.PublicIP, d.network.Network)
	}
	return nil
}

// previousSubnet is what an earlier run, or Flannel, wrote to the subnet file.
func (d *daemon) previousSubnet() netip.Prefix {
	e, err := subnet.ReadEnv(d.subnetFile())
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			d.Log.Warn("the previous subnet is not known", "err", err)
		}
		return noSubnet
	}
	return e.Subnet.Masked()
}

func (d *daemon) acquire(ctx context.Context) (err error) {
	// Our own former subnet is where docker0 has its address: not a conflict.
	if err := routes.Overlaps(d.network.Network, d.TunName, d.previousSubnet()); err != nil {
		return err
	}
	if d.own, err = d.manager.Acquire(ctx); err != nil {
		return err
	}
	d.onUndo(func(ctx context.Context) {
		if err := d.manager.Abandon(ctx); err != nil {
			d.Log.Warn("the lease stays until it expires", "err", err)
		}
	})
	d.Log.Info("holds lease", "subnet", d.own.Subnet, "network", d.network.Network, "port", d.own.Port, "reserved", d.own.Reserved())
	return nil
}

// openTunnel opens device and sockets. A device that is there already is the
// one of an earlier run; a failed start then leaves it as it was.
func (d *daemon) openTunnel(context.Context) (err error) {
	_, lookup := net.InterfaceByName(d.TunName)
	fresh := lookup != nil
	if d.device, err = tunnel.OpenPlain(tunnel.PlainConfig{Name: d.TunName, Queues: d.Queues}); err != nil {
		return err
	}
	d.onUndo(func(context.Context) {
		d.device.Close()
		if fresh {
			d.warnIf(routes.DeleteDevice(d.TunName))
		}
	})
	listen := netip.AddrPortFrom(d.underlay.Addr, d.own.Port)
	if d.conns, err = tunnel.Listen(listen, d.Queues); err != nil {
		return err
	}
	d.onUndo(func(context.Context) {
		for _, c := range d.conns {
			c.Close()
		}
	})
	d.tunnel, err = tunnel.New(tunnel.Config{
		Device:     d.device,
		Conns:      d.conns,
		Address:    d.own.Subnet.Addr(),
		SpoofCheck: d.SpoofCheck,
		Log:        d.Log,
	})
	return err
}

func (d *daemon) applyLink(context.Context) error {
	if d.MTU == 0 {
		d.MTU = min(d.underlay.MTU-encapsulation, maxMTU)
	} else if d.MTU > d.underlay.MTU-encapsulation {
		d.Log.Warn("mtu is larger than the underlay can carry in one piece: large packets will be lost",
			"mtu", d.MTU, "fits", d.underlay.MTU-encapsulation)
	}
	d.link = routes.Link{Name: d.TunName, Address: d.own.Subnet.Addr(), MTU: d.MTU, Network: d.network.Network}
	return d.link.Apply()
}

func (d *daemon) applyFirewall(context.Context) error {
	f, err := routes.NewFirewall(routes.FirewallConfig{
		Device:     d.TunName,
		Network:    d.network.Network,
		Subnet:     d.own.Subnet,
		Masquerade: d.IPMasq,
		Forward:    d.ForwardRules,
		Log:        d.Log,
	})
	if errors.Is(err, routes.ErrNoIptables) && !d.IPMasq {
		if d.ForwardRules {
			d.Log.Warn("no iptables program: forward rules are not set; where the FORWARD policy is DROP (Docker sets it) pods will not reach each other. Install iptables, or say --iptables-forward-rules=false")
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("ip-masq: %w", err)
	}
	d.onUndo(func(context.Context) { d.warnIf(f.Remove()) })
	if err := f.Apply(); err != nil {
		return err
	}
	d.firewall = f
	return nil
}

func (d *daemon) firstTable(context.Context) error {
	d.publish(d.manager.View())
	return nil
}

func (d *daemon) listenControl(context.Context) (err error) {
	if d.control, err = listenControl(SocketPath(d.RunDir), d.handler()); err != nil {
		return err
	}
	d.onUndo(func(context.Context) { d.control.close() })
	if d.Healthz.Port() == 0 {
		return nil
	}
	if d.healthz, err = listenHealthz(d.Healthz); err != nil {
		return err
	}
	d.onUndo(func(context.Context) { d.healthz.close() })
	return nil
}

func (d *daemon) writeSubnetFile(context.Context) error {
	return subnet.WriteEnv(d.subnetFile(), subnet.Env{
		Network: d.network.Network,
		Subnet:  subnet.SubnetEnv(d.own.Subnet),
		MTU:     d.MTU,
		IPMasq:  d.IPMasq,
	})
}

func (d *daemon) warnIf(err error) {
	if err != nil {
		d.Log.Warn("could not undo everything", "err", err)
	}
}
