package daemon

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"syscall"

	"twill/routes"
	"twill/tunnel"
)

// The groups of descriptors that systemd keeps for the next run: while nobody
// reads them, the packets of a restart wait in them.
const (
	queueGroup  = "tun"
	socketGroup = "udp"
)

// removeRenamed removes the device that the last run had under another name,
// with its rules: its route to Network would be in the way.
func (d *daemon) removeRenamed(ctx context.Context) error {
	left := d.store.Inherited(queueGroup)
	if len(left) == 0 {
		return nil
	}
	former, err := tunnel.DeviceName(left[0])
	if err != nil || former == d.TunName {
		return nil // openDevice sees whether it fits
	}
	d.Log.Info("tun-name has changed; removing the device of the last run", "device", former)
	if err := d.store.Drop(ctx, queueGroup); err != nil {
		return err
	}
	if err := routes.RemoveFirewall(former); err != nil && !errors.Is(err, routes.ErrNoIptables) {
		d.Log.Warn("could not remove the rules of the last run; `twill down --tun-name` removes them", "device", former, "err", err)
	}
	return routes.DeleteDevice(former)
}

// openDevice adopts the queues that the last run has left, or opens the device
// anew where they are not as the configuration wants them.
func (d *daemon) openDevice(ctx context.Context) (tunnel.Device, error) {
	config := tunnel.OpenConfig{Name: d.TunName, Queues: d.Queues, Offloads: d.Offloads, Log: d.Log}
	left := d.store.Take(queueGroup)
	if len(left) == 0 {
		return tunnel.Open(config)
	}
	device, err := config.Adopt(left)
	if err == nil {
		d.Log.Info("adopted the TUN queues of the last run", "device", d.TunName, "queues", len(left))
		return device, nil
	}
	if err := d.discard(ctx, queueGroup, err); err != nil {
		return nil, err
	}
	return tunnel.Open(config)
}

// openSockets does the same for the UDP sockets.
func (d *daemon) openSockets(ctx context.Context) ([]tunnel.Conn, error) {
	config := d.listenConfig(d.underlay.Addr)
	left := d.store.Take(socketGroup)
	if len(left) == 0 {
		return config.Listen()
	}
	conns, err := config.Adopt(left)
	if err == nil {
		d.Log.Info("adopted the UDP sockets of the last run", "address", config.Address, "sockets", len(left))
		return conns, nil
	}
	if err := d.discard(ctx, socketGroup, err); err != nil {
		return nil, err
	}
	return config.Listen()
}

// discard lets go of descriptors that do not fit, for the given reason.
func (d *daemon) discard(ctx context.Context, group string, reason error) error {
	d.Log.Warn("what the last run left open does not fit the configuration; opening anew, packets on their way are lost", "err", reason)
	return d.store.Drop(ctx, group)
}

// listenConfig is that of the UDP sockets at an address of the underlay.
func (d *daemon) listenConfig(addr netip.Addr) tunnel.ListenConfig {
	return tunnel.ListenConfig{
		Address:  netip.AddrPortFrom(addr, d.listenPort()),
		Sockets:  d.Queues,
		Offloads: d.Offloads,
		Log:      d.Log,
	}
}

// listenPort is that of our lease, unless peers see another.
func (d *daemon) listenPort() uint16 {
	if d.PublicPort != 0 {
		return cmp.Or(d.Port, d.network.Port)
	}
	return d.own.Port
}

func closeAll(conns []tunnel.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// keepDescriptors hands to systemd what it does not hold from the last run.
func (d *daemon) keepDescriptors() {
	var queues []syscall.Conn
	for _, q := range d.device.Queues() {
		queues = append(queues, q)
	}
	d.keep(queueGroup, queues)
	d.keepSockets()
}

func (d *daemon) keepSockets() {
	var sockets []syscall.Conn
	for _, c := range d.conns {
		sockets = append(sockets, c)
	}
	d.keep(socketGroup, sockets)
}

func (d *daemon) keep(group string, members []syscall.Conn) {
	if d.store.Holds(group) {
		return
	}
	if err := d.store.Keep(group, members); err != nil {
		d.Log.Warn("the next restart will lose packets", "err", err)
	}
}
