package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"twill/tunnel"
)

const (
	// strangersEvery is longer than the pause between the probes of a twill host
	// that looks for a peer.
	strangersEvery = 15 * time.Second
	// strangersStay is in how many of these spans in a row somebody without a
	// lease sends before it is told: a lone scanner is no problem of this host.
	strangersStay = 2
)

// strangers notes whether somebody without a lease sends to this host again and
// again. One goroutine looks, any may ask.
type strangers struct {
	drops uint64 // at the last look
	spans int    // in a row, in which there were more
	stay  atomic.Bool
}

func (s *strangers) look(drops uint64) {
	if drops > s.drops {
		s.spans++
	} else {
		s.spans = 0
	}
	s.drops = drops
	s.stay.Store(s.spans >= strangersStay)
}

func (d *daemon) watchStrangers(ctx context.Context) error {
	tick := time.NewTicker(strangersEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.strangers.look(d.tunnel.Stats().Rx.Drops[tunnel.DropUnknownEndpoint])
		}
	}
}
