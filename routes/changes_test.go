package routes

import (
	"context"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestWatchChanges(t *testing.T) {
	newNamespace(t)
	ctx, cancel := context.WithCancel(t.Context())
	changed, ended := make(chan struct{}, 100), make(chan error)
	go func() { // a goroutine's thread is of the namespace of the one that made it
		ended <- WatchChanges(ctx, func() { changed <- struct{}{} }, func(err error) { t.Error(err) })
	}()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("192.0.2.1/32")
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for end := time.Now().Add(10 * time.Second); !seen && time.Now().Before(end); {
		// The subscription may come after the first change.
		if err := netlink.AddrReplace(lo, addr); err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrDel(lo, addr); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
			seen = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	if !seen {
		t.Error("an address came and went, and nobody was told")
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("WatchChanges did not end")
	}
}
