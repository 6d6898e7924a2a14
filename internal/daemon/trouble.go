package daemon

import (
	"log/slog"
	"sync/atomic"
)

// trouble says once when something begins to fail, for each reason, and once when
// it ends. Any goroutine may note, and ask what it is.
type trouble struct {
	log          *slog.Logger
	begins, ends string
	last         atomic.Pointer[string] // nil: none
}

func (t *trouble) note(err error) {
	last := t.now()
	switch {
	case err != nil && err.Error() != last:
		t.log.Error(t.begins, "err", err)
		now := err.Error()
		t.last.Store(&now)
	case err == nil && last != "":
		t.log.Info(t.ends)
		t.last.Store(nil)
	}
}

// now is the trouble as it is, or "".
func (t *trouble) now() string {
	if last := t.last.Load(); last != nil {
		return *last
	}
	return ""
}

// troubles are those that this host may have with itself.
type troubles struct {
	underlay, device, subnetFile, bridge, notify trouble
}

func newTroubles(log *slog.Logger) troubles {
	return troubles{
		underlay:   trouble{log: log, begins: "cannot use the underlay; waiting for it; `twill status` says what to do", ends: "the underlay is usable again"},
		device:     trouble{log: log, begins: "device or route is not as it should be; trying on; `twill status` says what to do", ends: "device and route are as they should be again"},
		subnetFile: trouble{log: log, begins: "cannot write the subnet file; trying on; `twill status` says what to do", ends: "the subnet file is written again"},
		notify:     trouble{log: log, begins: "systemd cannot be told of this daemon's state and may restart it; look at NotifyAccess= and at $NOTIFY_SOCKET", ends: "systemd is told of this daemon's state again"},
		bridge:     trouble{log: log, begins: "containers are not in this host's subnet; `twill status` says what to do", ends: "containers are in this host's subnet"},
	}
}
