package daemon

import (
	"cmp"
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"twill/internal/api"
	"twill/subnet"
)

// watchdogShare divides WatchdogSec= (sd_watchdog_enabled(3) advises half of it), so that one late turn does no harm.
const watchdogShare = 3

// keepWatchdog tells systemd that the daemon is alive, as often as the unit asks for it, and only as long as it is: every
// loop of the tunnel has got on with its burst since the last time, the lease's loop turns, and the control socket answers.
// What may rightly take long, such as etcd's answers and iptables, is not asked about: forwarding goes on without.
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
	lease := turning{turns: d.manager.Turns(), since: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := d.tunnel.Turns()
		err := cmp.Or(d.alive(ctx, before, now), lease.see(d.manager.Turns(), time.Now()))
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

// turning is how far the lease's loop, which may wait for etcd, has come, and since when.
type turning struct {
	turns uint64
	since time.Time
}

// see returns an error if the loop has not turned for longer than any turn takes.
func (t *turning) see(turns uint64, now time.Time) error {
	if turns != t.turns {
		*t = turning{turns, now}
		return nil
	}
	if stood := now.Sub(t.since); stood > subnet.LongestTurn {
		return fmt.Errorf("the lease's loop has hung for %v", stood.Round(time.Second))
	}
	return nil
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
