package subnet

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// instant is a moment that a later run of this host can compare with its own.
// Within one boot the time since boot tells, which no one can set and which
// goes on in suspend; across boots only the wall clock does.
type instant struct {
	Wall      time.Time
	BootID    string        // proc_sys_kernel(5): random/boot_id
	SinceBoot time.Duration // CLOCK_BOOTTIME
}

func now() instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return instant{Wall: time.Now()} // a boot of its own: the wall clock tells
	}
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // "" is no boot's
	return instant{Wall: time.Now(), BootID: strings.TrimSpace(string(id)), SinceBoot: time.Duration(ts.Nano())}
}

// since is the time from i to now. An error: the clocks cannot tell.
func (i instant) since(now instant) (time.Duration, error) {
	if i.BootID != "" && i.BootID == now.BootID {
		return now.SinceBoot - i.SinceBoot, nil
	}
	d := now.Wall.Sub(i.Wall)
	if d < 0 {
		return 0, fmt.Errorf("the clock says %s, which is before %s: it was set back", now.Wall.Format(time.RFC3339), i.Wall.Format(time.RFC3339))
	}
	return d, nil
}
