package routes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// resubscribeAfter is the pause after a subscription that failed.
const resubscribeAfter = time.Second

// WatchChanges calls changed after links, IPv4 addresses or routes have changed,
// also when the kernel could not say how often. It blocks until ctx ends, and
// returns nil; failed gets what it recovers from.
func WatchChanges(ctx context.Context, changed func(), failed func(error)) error {
	for ctx.Err() == nil {
		if err := watchOnce(ctx, changed); err != nil && ctx.Err() == nil {
			failed(err)
			changed() // what came meanwhile is not known
		}
		select {
		case <-ctx.Done():
		case <-time.After(resubscribeAfter):
		}
	}
	return nil
}

func watchOnce(ctx context.Context, changed func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE)
	if err != nil {
		return fmt.Errorf("subscribe to changes of links, addresses and routes: %w", err)
	}
	stop := context.AfterFunc(ctx, socket.Close)
	defer func() {
		if stop() {
			socket.Close()
		}
	}()
	for {
		_, _, err := socket.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // more changes than the buffer holds
			return fmt.Errorf("receive changes of links, addresses and routes: %w", err)
		}
		changed()
	}
}
