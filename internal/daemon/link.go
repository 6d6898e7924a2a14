package daemon

import (
	"context"
	"errors"
	"time"

	"twill/routes"
)

// settle is how long a change of the host's links, addresses and routes may go
// on, as they come in groups, before it is looked at.
const settle = 100 * time.Millisecond

// keepHost puts device, address and route right again, as Firewall.Run does for
// the rules: a route that somebody deletes would cost all traffic. And it follows
// the underlay where that goes. It looks at once when the kernel tells of a
// change, and every Resync in any case. A device that is gone ends the tunnel, and
// with it the daemon.
func (d *daemon) keepHost(ctx context.Context) error {
	tick := time.NewTicker(d.Resync)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-d.hostChanged:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(settle):
			}
		}
		d.troubles.underlay.note(d.followUnderlay(ctx))
		d.troubles.device.note(errors.Join(d.link.Apply(), d.setHostAddresses()))
		d.troubles.subnetFile.note(d.keepSubnetFile())
		d.lookAtBridges()
	}
}

// watchHost wakes keepHost.
func (d *daemon) watchHost(ctx context.Context) error {
	return routes.WatchChanges(ctx, func() {
		select {
		case d.hostChanged <- struct{}{}:
		default: // keepHost has yet to look at an earlier one
		}
	}, func(err error) {
		d.Log.Warn("changes of the host's addresses may be noticed late", "err", err, "every", d.Resync)
	})
}

// setHostAddresses tells the tunnel at which addresses the host's own packets
// may start.
func (d *daemon) setHostAddresses() error {
	addrs, err := routes.HostAddresses()
	if err == nil {
		d.tunnel.SetHostAddresses(addrs)
	}
	return err
}
