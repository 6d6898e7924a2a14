package routes

import (
	"context"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestWatchChanges(t *testing.T) {
	newNamespace(t)
	handle, err := netlink.NewHandle() // of the namespace, for a goroutine that is not in it
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	lo, err := handle.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("192.0.2.1/32")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil { // the first may come before the subscription
			if err := handle.AddrReplace(lo, addr); err != nil {
				t.Error(err)
			}
			if err := handle.AddrDel(lo, addr); err != nil {
				t.Error(err)
			}
		}
	}()
	changes := 0
	err = WatchChanges(ctx, func() { changes++; cancel() }, func(err error) { t.Error(err) })
	<-ended
	if err != nil || changes == 0 {
		t.Errorf("%d changes told, %v; want some", changes, err)
	}
}
