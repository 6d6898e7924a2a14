package overlay

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"

	"twill/internal/lab"
)

// tunDaemon is a program that carries the packets of a TUN device it makes, and
// leaves address, MTU and routes to others.
type tunDaemon struct {
	kind string // of device: its name is this and the number of the host
	mtu  int    // of device and pods, in bytes
	// command is the command line for host i, whose files exist already.
	command func(i int, device string) []string
	// configure tells host i's running daemon what it could not be told
	// before; nil if there is nothing.
	configure func(i int, device string) error
}

// start starts the program on both hosts and routes the pods' packets to it.
func (t tunDaemon) start(ctx context.Context, l *lab.Lab) (*Network, error) {
	n, err := addPods(l, t.mtu)
	if err != nil {
		return nil, err
	}
	for i, h := range l.Hosts {
		d, err := h.StartProgram(t.command(i, t.device(i))...)
		if err != nil {
			return nil, err
		}
		n.Daemons = append(n.Daemons, d)
	}
	for i, h := range l.Hosts {
		if err := t.await(ctx, i, n.Daemons[i]); err != nil {
			return nil, err
		}
		if t.configure != nil {
			if err := t.configure(i, t.device(i)); err != nil {
				return nil, fmt.Errorf("configure %s: %w", n.Daemons[i], err)
			}
		}
		if err := t.route(i, h); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", t.device(i), h.Name, err)
		}
	}
	return n, nil
}

// device is the name of host i's device. It differs between hosts because some
// programs name files after it, and the hosts share the file system.
func (t tunDaemon) device(i int) string { return fmt.Sprintf("%s%d", t.kind, i+1) }

// await waits for the device of host i.
func (t tunDaemon) await(ctx context.Context, i int, d *lab.Process) error {
	return lab.WaitFor(ctx, t.device(i)+" of "+d.Host.Name, func() error {
		if _, err := d.Host.Link().LinkByName(t.device(i)); err != nil {
			return fmt.Errorf("%w; %s said:\n%s", err, d, d.Tail(5))
		}
		return nil
	})
}

// route sets the device up and sends the other host's subnet through it.
func (t tunDaemon) route(i int, h *lab.Host) error {
	device, err := h.Link().LinkByName(t.device(i))
	if err != nil {
		return err
	}
	if err := h.Link().LinkSetMTU(device, t.mtu); err != nil {
		return fmt.Errorf("set mtu %d: %w", t.mtu, err)
	}
	if err := h.Link().LinkSetUp(device); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	route := &netlink.Route{LinkIndex: device.Attrs().Index, Dst: ipNet(subnet(1 - i)), Scope: netlink.SCOPE_LINK}
	if err := h.Link().RouteAdd(route); err != nil {
		return fmt.Errorf("add route to %s: %w", subnet(1-i), err)
	}
	return nil
}
