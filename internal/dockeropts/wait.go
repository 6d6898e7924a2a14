package dockeropts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// waitInterval is how often the env file is looked for: a start that takes this much longer is not noticed.
const waitInterval = 200 * time.Millisecond

// WaitForEnv blocks until the env file at path is there, and then returns nil, or until ctx ends. The first time that it
// is missing, say is called with a line for the person who wonders what Docker is waiting for.
func WaitForEnv(ctx context.Context, path string, say func(string)) error {
	tick := time.NewTicker(waitInterval)
	defer tick.Stop()
	for said := false; ; said = true {
		_, err := os.Stat(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !said {
			say(fmt.Sprintf("waiting for %s, which `twill run` writes when it has a subnet; `systemctl status twill` says what it is doing", path))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
