package daemon

import (
	"context"
	"errors"
	"log/slog"
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
	link := trouble{log: d.Log, begins: "device or route is not as it should be; trying on", ends: "device and route are as they should be again"}
	underlay := trouble{log: d.Log, begins: "cannot use the underlay; waiting for it", ends: "the underlay is usable again"}
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
		underlay.note(d.followUnderlay(ctx))
		now := underlay.last
		d.underlayTrouble.Store(&now)
		link.note(errors.Join(d.link.Apply(), d.setHostAddresses()))
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

// trouble says once when something begins to fail, for each reason, and once when
// it ends.
type trouble struct {
	log          *slog.Logger
	begins, ends string
	last         string // "": none
}

func (t *trouble) note(err error) {
	switch {
	case err != nil && err.Error() != t.last:
		t.log.Error(t.begins, "err", err)
		t.last = err.Error()
	case err == nil && t.last != "":
		t.log.Info(t.ends)
		t.last = ""
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
