package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"twill/internal/embedetcd"
	"twill/internal/fdstore"
	"twill/internal/metrics"
	"twill/routes"
	"twill/subnet"
	"twill/tunnel"
)

// stopTimeout bounds the wait for loops that hang in a system call or an RPC:
// a stop is over in under a second, whatever etcd does.
const stopTimeout = 700 * time.Millisecond

type daemon struct {
	Config
	undo []func(context.Context)

	store      *fdstore.Store
	lock       *os.File
	etcd       *embedetcd.Server
	underlay   routes.Underlay
	network    subnet.Config
	registry   *subnet.Registry
	cache      *subnet.Cache
	identity   subnet.Identity
	manager    *subnet.Manager
	previous   netip.Prefix // subnet of an earlier run
	own        subnet.Lease
	leaseStays bool // a start that failed could not give own back
	conns      []tunnel.Conn
	device     tunnel.Device
	fresh      bool // the device was not there before
	link       routes.Link
	firewall   *routes.Firewall // nil: without
	tunnel     *tunnel.Tunnel
	control    *control
	http       []*httpServer
	pings      *rate.Limiter    // of those that clients of the control socket ask for
	metrics    *metrics.Metrics // nil: without HTTP nobody asks for them

	table atomic.Pointer[Table] // in force; for the control socket

	started time.Time              // the end of the start
	up      atomic.Bool            // the start is over: all above is there
	waiting atomic.Pointer[string] // what the start waits for
	fenced  atomic.Bool            // our subnet is another's
	pulse   atomic.Pointer[pulse]  // keepWatchdog's latest

	said string // the last STATUS=; publish's own
	news *news  // publish's own

	hostChanged chan struct{} // wakes keepHost
	troubles    troubles      // of keepHost
	strangers   strangers
	mtu         atomic.Int64 // of the device, bytes
}

// Run is the daemon: it blocks until ctx ends (nil), the start fails, or a loop
// dies. An error that wraps subnet.ErrFenced says that this host's subnet is
// another's now.
func Run(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	d := &daemon{Config: c, store: fdstore.Inherit(), hostChanged: make(chan struct{}, 1), troubles: newTroubles(c.Log), news: newNews(c.Log),
		pings: rate.NewLimiter(pingsPerSecond, pingBurst)}
	defer d.store.Close()
	if err := d.start(ctx); err != nil {
		stopped := ctx.Err() != nil
		if !stopped {
			d.noteEnd(err) // first, as they keep the run directory
		}
		d.undoAll()
		if stopped {
			return nil
		}
		return err
	}
	err := d.serve(ctx)
	d.noteEnd(err)
	return err
}

func (d *daemon) onUndo(f func(context.Context)) { d.undo = append(d.undo, f) }

func (d *daemon) undoAll() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for i := len(d.undo) - 1; i >= 0; i-- {
		d.undo[i](ctx)
	}
}

// serve runs every loop of the daemon until ctx ends or one of them dies.
func (d *daemon) serve(ctx context.Context) error {
	d.keepDescriptors() // keepHost may change them
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return named("tunnel", d.tunnel.Run(ctx)) })
	group.Go(func() error { return d.keepHost(ctx) })
	group.Go(func() error { return d.watchHost(ctx) })
	group.Go(func() error { return d.keepLease(ctx) })
	group.Go(func() error { return d.watchStrangers(ctx) })
	group.Go(func() error { return named("cache", d.cache.Run(ctx)) })
	group.Go(func() error { return named("control socket", d.control.run(ctx)) })
	group.Go(func() error { return d.keepWatchdog(ctx) })
	for _, s := range d.http {
		group.Go(func() error { return s.wait(ctx) })
	}
	if d.firewall != nil {
		group.Go(func() error { return named("iptables", d.firewall.Run(ctx, d.Resync)) })
	}
	if d.etcd != nil {
		group.Go(func() error { return d.watchEmbeddedEtcd(ctx) })
	}
	d.forgetEnd()
	d.notifyReady()

	<-ctx.Done()
	d.notify(systemd.SdNotifyStopping)
	err := waitFor(group, stopTimeout)
	if errors.Is(err, errSlowStop) {
		// Whatever hangs, the reason for the end is what counts.
		err = context.Cause(ctx)
		if errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	d.close()
	return err
}

// keepLease stops the forwarding, before all else, once our subnet is proven
// to be another owner's.
func (d *daemon) keepLease(ctx context.Context) error {
	err := d.manager.Run(ctx)
	if errors.Is(err, subnet.ErrFenced) {
		d.tunnel.SetTable(tunnel.NewTable(noSubnet, nil))
		d.fenced.Store(true)
		d.warnIf(d.cache.Discard()) // a start without etcd must not take the subnet
	}
	return err
}

// watchEmbeddedEtcd ends etcd with the others, not after them: it takes its
// time.
func (d *daemon) watchEmbeddedEtcd(ctx context.Context) error {
	select {
	case <-ctx.Done():
		d.etcd.Close()
		return nil
	case err := <-d.etcd.Err():
		return named("embedded etcd", err)
	}
}

// errSlowStop says that a loop did not end in time: the process ends it.
var errSlowStop = errors.New("a loop did not end in time")

func waitFor(group *errgroup.Group, timeout time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- group.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(timeout):
		return errSlowStop
	}
}

// close lets go of what the kernel would let go of anyhow when the process
// ends, in an order that loses nothing.
func (d *daemon) close() {
	d.device.Close()
	closeAll(d.conns)
	d.registry.Close()
}

func named(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
