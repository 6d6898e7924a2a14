package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"twill/internal/embedetcd"
	"twill/routes"
	"twill/subnet"
	"twill/tunnel"
)

// start brings everything up in this order; each step leaves its undoing
// behind. The host is checked before etcd is asked, and all that can fail
// comes before device and rules, which an earlier run may have left in use.
func (d *daemon) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.checkPrivileges,
		d.makeDirs,
		d.listenHTTP,
		d.findUnderlay,
		d.checkForwarding,
		d.removeRenamed,
		d.startEtcd,
		d.dialEtcd,
		d.takeLease,
		d.openTunnel,
		d.listenControl,
		d.applyLink,
		d.applyFirewall,
		d.firstTable,
		d.writeSubnetFile,
	} {
		if err := step(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	d.started = time.Now()
	d.up.Store(true)
	return nil
}

func (d *daemon) checkPrivileges(context.Context) error {
	if err := routes.CheckTUN(); err != nil {
		return err
	}
	return routes.CheckCapability()
}

// makeDirs makes the directories, locks the run directory against a second
// daemon, and proves that subnet.env can be written.
func (d *daemon) makeDirs(context.Context) error {
	for flag, dir := range map[string]string{
		"run-dir": d.RunDir, "state-dir": d.StateDir, "subnet-file": filepath.Dir(d.SubnetFilePath()),
	} {
		if err := d.makeDir(dir); err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	if err := subnet.ProbeEnv(d.SubnetFilePath()); err != nil {
		return fmt.Errorf("subnet-file: %w", err)
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

// makeDir makes a directory with its parents; a failed start removes what is
// empty of it again.
func (d *daemon) makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d.onUndo(func(context.Context) { os.Remove(dir) })
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
	d.onUndo(func(context.Context) { d.warnIf(routes.DisableForwarding()) })
	d.Log.Info("set net.ipv4.ip_forward=1")
	return nil
}

func (d *daemon) findUnderlay(context.Context) (err error) {
	if d.underlay, err = routes.FindUnderlay(d.Underlay); err != nil {
		return err
	}
	d.Log.Info("underlay", "interface", d.underlay.Name, "address", d.underlay.Addr, "public-ip", d.publicIP(), "mtu", d.underlay.MTU)
	return nil
}

// publicIP is what peers send to: set by hand, or the underlay's address.
func (d *daemon) publicIP() netip.Addr {
	if d.PublicIP.IsValid() {
		return d.PublicIP
	}
	return d.underlay.Addr
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

// openTunnel opens device and sockets. A device that is there already is the
// one of an earlier run; a failed start then leaves it as it was.
func (d *daemon) openTunnel(ctx context.Context) (err error) {
	_, lookup := net.InterfaceByName(d.TunName)
	d.fresh = lookup != nil
	if d.device, err = d.openDevice(ctx); err != nil {
		return err
	}
	d.onUndo(func(context.Context) {
		d.device.Close()
		if d.fresh {
			d.warnIf(routes.DeleteDevice(d.TunName))
		}
	})
	if d.conns, err = d.openSockets(ctx); err != nil {
		return err
	}
	d.onUndo(func(context.Context) {
		closeAll(d.conns)
	})
	d.tunnel, err = tunnel.New(tunnel.Config{
		Device:            d.device,
		Conns:             d.conns,
		Address:           d.own.Subnet.Addr(),
		MTU:               d.deviceMTU(),
		ProbeInterval:     d.ProbeInterval,
		Observer:          d.observer(),
		SpoofCheck:        d.SpoofCheck,
		DirectedBroadcast: d.Broadcast,
		Log:               d.Log,
	})
	return err
}

func (d *daemon) applyLink(context.Context) error {
	if fits := d.underlay.MTU - encapsulation; d.MTU > fits {
		d.Log.Warn("mtu is larger than the underlay takes in one piece: pods are told so, packet by packet", "mtu", d.MTU, "fits", fits)
	}
	d.link = routes.Link{
		Name:       d.TunName,
		Address:    d.own.Subnet.Addr(),
		MTU:        d.deviceMTU(),
		Network:    d.network.Network,
		TxQueueLen: tunnel.TxQueueLen,
		GSOMaxSize: tunnel.GSOMaxSize,
	}
	d.mtu.Store(int64(d.link.MTU))
	if err := d.link.Apply(); err != nil {
		return err
	}
	return d.setHostAddresses()
}

// applyFirewall does not wait for an iptables that hangs once ctx has ended.
func (d *daemon) applyFirewall(ctx context.Context) error {
	type result struct {
		firewall *routes.Firewall
		err      error
	}
	done := make(chan result, 1)
	go func() {
		f, err := d.makeFirewall()
		done <- result{f, err}
	}()
	select {
	case r := <-done:
		if d.firewall = r.firewall; d.firewall != nil && d.fresh { // else an earlier run's rules stay for the next
			d.onUndo(func(context.Context) { d.warnIf(d.firewall.Remove()) })
		}
		return r.err
	case <-ctx.Done():
		d.Log.Warn("iptables has not ended; rules that it still makes stay until the next run or `twill down`")
		return ctx.Err()
	}
}

// makeFirewall applies the rules. It returns the Firewall also when some of
// them failed; nil: without rules.
func (d *daemon) makeFirewall() (*routes.Firewall, error) {
	f, err := routes.NewFirewall(routes.FirewallConfig{
		Device:     d.TunName,
		Network:    d.network.Network,
		Subnet:     d.own.Subnet,
		Port:       d.network.Port,
		Masquerade: d.IPMasq,
		Forward:    d.ForwardRules,
		Log:        d.Log,
	})
	if errors.Is(err, routes.ErrNoIptables) && !d.IPMasq {
		if d.ForwardRules {
			d.Log.Warn("no iptables program: forward rules are not set; where the FORWARD policy is DROP (Docker sets it) pods will not reach each other. Install iptables, or say --iptables-forward-rules=false")
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return f, f.Apply()
}

func (d *daemon) firstTable(context.Context) error {
	d.publish(d.manager.View())
	return nil
}

func (d *daemon) listenControl(context.Context) (err error) {
	if d.control, err = listenControl(SocketPath(d.RunDir), d.handler(), d.Log); err == nil {
		d.onUndo(func(context.Context) { d.control.close() })
	}
	return err
}

func (d *daemon) warnIf(err error) {
	if err != nil {
		d.Log.Warn("could not undo everything; `twill down` removes what is left", "err", err)
	}
}
