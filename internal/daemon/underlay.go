package daemon

import (
	"context"
	"net/netip"

	"twill/routes"
)

// followUnderlay goes where the underlay is now: to another address, another
// interface, another MTU. An error leaves everything as it was, to be tried
// again.
func (d *daemon) followUnderlay(ctx context.Context) error {
	next, err := routes.FindUnderlay(d.Underlay)
	if err != nil {
		return err
	}
	if next == d.underlay {
		return nil
	}
	if next.Addr != d.underlay.Addr {
		if err := d.rebind(ctx, next.Addr); err != nil {
			return err
		}
	}
	d.Log.Info("the underlay has changed", "interface", next.Name, "address", next.Addr, "mtu", next.MTU,
		"former-interface", d.underlay.Name, "former-address", d.underlay.Addr, "former-mtu", d.underlay.MTU)
	d.underlay = next
	d.followMTU()
	return nil
}

// rebind moves the tunnel to sockets at addr and says so in our lease, unless the
// public IP was set by hand.
func (d *daemon) rebind(ctx context.Context, addr netip.Addr) error {
	conns, err := d.listenConfig(addr).Listen()
	if err != nil {
		return err
	}
	former, err := d.tunnel.Rebind(conns)
	if err != nil {
		closeAll(conns)
		return err
	}
	d.conns = conns
	closeAll(former)
	if !d.PublicIP.IsValid() {
		d.manager.MoveTo(addr)
	}
	if err := d.store.Drop(ctx, socketGroup); err != nil {
		d.Log.Warn("the next restart will lose packets", "err", err)
	}
	d.keepSockets()
	return nil
}

// followMTU gives the device the underlay's MTU, unless it was set by hand.
// Containers that exist keep theirs until they are made anew.
func (d *daemon) followMTU() {
	mtu := d.deviceMTU()
	if mtu != d.link.MTU {
		d.link.MTU = mtu
		d.mtu.Store(int64(mtu))
		d.tunnel.SetMTU(mtu)
	}
}

// deviceMTU is what the TUN device shall have, in bytes.
func (d *daemon) deviceMTU() int {
	if d.MTU != 0 {
		return d.MTU
	}
	return min(d.underlay.MTU-encapsulation, maxMTU)
}
