package daemon

import (
	"context"
	"errors"
	"time"

	"twill/routes"
)

// keepLink puts device, address and route right again, as Firewall.Run does for
// the rules: a route that somebody deletes would cost all traffic. A trouble is
// said once, and so is its end. A device that is gone ends the tunnel, and with
// it the daemon.
func (d *daemon) keepLink(ctx context.Context) error {
	tick := time.NewTicker(d.Resync)
	defer tick.Stop()
	var last string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := errors.Join(d.link.Apply(), d.setHostAddresses())
		switch {
		case err != nil && err.Error() != last:
			d.Log.Error("device or route is not as it should be; trying on", "err", err)
			last = err.Error()
		case err == nil && last != "":
			d.Log.Info("device and route are as they should be again")
			last = ""
		}
	}
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
