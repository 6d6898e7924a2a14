package routes

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dumpAttempts bounds the retries of a dump that keeps being interrupted: on
// a host that starts containers every second the second attempt is clean.
const dumpAttempts = 10

// dump calls list until the kernel says that the answer is consistent. A
// listing during which something was added or removed (NLM_F_DUMP_INTR) may
// lack entries that were there all the time.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	var entries []T
	var err error
	for range dumpAttempts {
		entries, err = list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return entries, err
		}
	}
	return nil, err
}

// mainRoutes lists the IPv4 routes of table main.
func mainRoutes() ([]netlink.Route, error) {
	return dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, 0)
	})
}
