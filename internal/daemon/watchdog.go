package daemon

import (
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"twill/internal/api"
)

// watchdogShare divides WatchdogSec= (sd_watchdog_enabled(3) advises half of it), so that one late turn does no harm.
const watchdogShare = 3

// keepWatchdog tells systemd that the daemon is alive, as often as the unit asks for it, and only as long as it is: every
// loop of the tunnel has got on with its burst since the last time, and the control socket answers. What may rightly take
// long, such as etcd and iptables, is not asked about: forwarding goes on without.
func (d *daemon) keepWatchdog(ctx context.Context) error {
	limit, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		d.Log.Warn("the watchdog is not fed", "err", err)
	}
	if limit == 0 {
		return nil
	}
	tick := time.NewTicker(limit / watchdogShare)
	defer tick.Stop()
	before := d.tunnel.Turns()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := d.tunnel.Turns()
		err := d.alive(ctx, before, now)
		before = now
		switch {
		case err == nil:
			d.notify(systemd.SdNotifyWatchdog)
		case ctx.Err() == nil:
			d.Log.Error("not healthy; systemd ends the daemon if this goes on", "err", err, "limit", limit)
		}
	}
}

func (d *daemon) alive(ctx context.Context, before, now []uint64) error {
	if loop, found := hanging(before, now); found {
		return fmt.Errorf("loop %d of the tunnel hangs", loop)
	}
	var s api.Status
	return api.Get(ctx, SocketPath(d.RunDir), api.StatusPath, &s)
}

// hanging finds a loop that is at the same burst as before; see Tunnel.Turns.
func hanging(before, now []uint64) (loop int, found bool) {
	for i, n := range now {
		if n%2 == 1 && n == before[i] {
			return i, true
		}
	}
	return 0, false
}
