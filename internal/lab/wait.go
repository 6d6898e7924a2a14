package lab

import (
	"context"
	"fmt"
	"time"
)

// pollInterval is how often WaitFor looks: unnoticed by people and by the two
// cores of a small machine.
const pollInterval = 15 * time.Millisecond

// WaitFor calls reached until it returns nil or ctx ends. While the state is not
// there, reached returns an error that says what it sees instead; the last one is
// part of the error of WaitFor. what completes the phrase "waiting for …".
func WaitFor(ctx context.Context, what string, reached func() error) error {
	begin := time.Now()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := reached()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s (%s): %w: %w", what, time.Since(begin).Round(time.Millisecond), context.Cause(ctx), err)
		}
	}
}
