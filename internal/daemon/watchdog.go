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

// lookEvery is how often the daemon looks at its loops, where systemd does not want to hear from it more often. It is far
// above what a burst takes on a machine that is short of CPU time.
const lookEvery = 10 * time.Second

// pulse is what the daemon found when it last looked at its loops.
type pulse struct {
	at    time.Time
	every time.Duration // it looks
	err   error         // nil: alive
}

// keepWatchdog sees whether the daemon is alive: every loop of the tunnel has got on with its burst since the last time, the
// lease's loop turns, and the control socket answers. It leaves that for /healthz, and tells systemd, as often as the unit
// asks for it and only as long as it is so. What may rightly take long, such as etcd's answers and iptables, is not asked
// about: forwarding goes on without.
func (d *daemon) keepWatchdog(ctx context.Context) error {
	every := lookEvery
	limit, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		d.Log.Warn("systemd's watchdog is not fed and will end the daemon; correct WatchdogSec= in the unit", "err", err)
	}
	if limit != 0 {
		every = min(every, limit/watchdogShare)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	before := d.tunnel.Turns()
	lease := turning{turns: d.manager.Turns(), since: time.Now()}
	hangs := trouble{log: d.Log, begins: "the daemon hangs; systemd's watchdog restarts it if this goes on, without systemd restart it yourself", ends: "the daemon no longer hangs"}
	d.pulse.Store(&pulse{at: time.Now(), every: every})
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := d.tunnel.Turns()
		err := cmp.Or(d.alive(ctx, before, now), lease.see(d.manager.Turns(), time.Now()))
		before = now
		if ctx.Err() != nil {
			return nil
		}
		d.pulse.Store(&pulse{at: time.Now(), every: every, err: err})
		hangs.note(err)
		if err == nil && limit != 0 {
			d.notify(systemd.SdNotifyWatchdog)
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
	if now.Sub(t.since) > subnet.LongestTurn {
		return fmt.Errorf("the lease's loop has not turned for %v", subnet.LongestTurn)
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
