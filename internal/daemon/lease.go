package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"twill/routes"
	"twill/subnet"
)

var noSubnet netip.Prefix

// etcdPatience is how long a start waits for etcd before it goes on with the
// cache. Without one it waits for ever.
const etcdPatience = 3 * time.Second

// dialEtcd prepares all that the lease needs; etcd is not asked yet.
func (d *daemon) dialEtcd(ctx context.Context) error {
	id, err := d.nodeID()
	if err != nil {
		return err
	}
	d.identity = subnet.Identity{
		NodeID: id, Node: d.NodeName, PublicIP: d.publicIP(),
		Port: cmp.Or(d.PublicPort, d.Port), SharedIP: d.PublicPort != 0,
	}
	d.previous = d.previousSubnet()
	// A lease is given back also after SIGTERM: close ends the registry.
	if d.registry, err = subnet.Dial(context.WithoutCancel(ctx), d.Etcd, d.Log); err != nil {
		return err
	}
	d.onUndo(func(context.Context) { d.registry.Close() })
	d.registry.Waiting = func(state string) {
		d.waiting.Store(&state)
		d.notify("STATUS=" + state)
	}
	if d.metrics != nil {
		d.registry.Observe = d.metrics.RPC
	}
	d.cache = subnet.NewCache(d.StateDir, d.Log)
	d.manager = subnet.NewManager(d.registry, subnet.Options{
		Identity:    d.identity,
		Previous:    d.previous,
		RenewMargin: d.RenewMargin,
		Grace:       d.LeaseGrace,
		Cache:       d.cache,
		Log:         d.Log,
		Publish:     d.publish,
	})
	d.onUndo(func(ctx context.Context) {
		if err := d.manager.Abandon(ctx); err != nil {
			d.leaseStays = true
			d.Log.Warn("the lease stays in etcd, and the node id by which the next start finds it", "err", err)
		}
	})
	return nil
}

// twinPause is how long a start that found a twin waits before it fails: it asks
// etcd and the twin anew each time, and systemd starts it again at once.
const twinPause = 15 * time.Second

// takeLease learns the network and our lease and checks them against this host.
func (d *daemon) takeLease(ctx context.Context) error {
	err := d.leaseOrCache(ctx)
	if errors.Is(err, subnet.ErrTwin) {
		d.Log.Warn("another daemon runs with this host's identity; not starting", "err", err, "ending-in", twinPause)
		d.registry.Waiting(err.Error())
		d.warnIf(d.cache.Discard()) // the next start, if without etcd, must not take the twin's subnet
		select {
		case <-ctx.Done():
		case <-time.After(twinPause):
		}
	}
	return err
}

// leaseOrCache takes network and lease from etcd or else from the cache of an
// earlier run.
func (d *daemon) leaseOrCache(ctx context.Context) error {
	cached, err := d.cache.Load(d.identity, d.Etcd)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return d.askEtcd(ctx)
	case err != nil:
		d.Log.Warn("the cache is not used; waiting for etcd, however long that takes", "err", err)
		return d.askEtcd(ctx)
	}
	patient, cancel := context.WithTimeout(ctx, etcdPatience)
	defer cancel()
	err = d.askEtcd(patient)
	var silent *noAnswer
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &silent):
		return err
	}
	d.Log.Warn("etcd does not serve us; starting with the lease and the peers of an earlier run", "cached", cached.Saved, "err", silent.err)
	d.network, d.own = d.manager.Restore(cached, silent.err)
	return d.checkLease()
}

// noAnswer is an error of etcd, not of what it said: a start can go on without.
type noAnswer struct{ err error }

func (e *noAnswer) Error() string { return e.err.Error() }
func (e *noAnswer) Unwrap() error { return e.err }

// askEtcd takes network and lease from etcd, and waits for it until ctx ends.
func (d *daemon) askEtcd(ctx context.Context) (err error) {
	d.network, err = d.manager.Configure(ctx, nil)
	if errors.Is(err, subnet.ErrNoConfig) && d.Network.IsValid() {
		if d.network, err = d.firstNetwork(); err != nil {
			return err
		}
		d.network, err = d.manager.Configure(ctx, &d.network)
	}
	if err != nil {
		return &noAnswer{err}
	}
	if d.Network.IsValid() && d.network.Network != d.Network {
		d.Log.Warn("etcd already holds a network config, which wins over --network", "network", d.network.Network, "asked", d.Network)
	}
	if d.network.IPv6Ignored() {
		d.Log.Warn("the network config asks for IPv6 too; twill carries IPv4 only")
	}
	if err := d.checkUnderlayOutside(d.network.Network); err != nil {
		return err
	}
	if d.own, err = d.manager.Acquire(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = &noAnswer{err}
		}
		return err
	}
	return d.checkLease()
}

// firstNetwork is the config to write where there is none. One that could not
// work here must not stay in etcd, where it would win from then on.
func (d *daemon) firstNetwork() (subnet.Config, error) {
	c, err := subnet.DefaultConfig(d.Network)
	if err != nil {
		return c, fmt.Errorf("network: %w", err)
	}
	if d.Port != 0 {
		c.Port = d.Port
	}
	if err := d.checkUnderlayOutside(c.Network); err != nil {
		return c, err
	}
	return c, routes.Overlaps(c.Network, d.TunName, d.previous)
}

func (d *daemon) checkLease() error {
	attrs := []any{"subnet", d.own.Subnet, "network", d.network.Network, "port", d.own.Port}
	if d.own.Reserved() {
		attrs = append(attrs, "reserved", true)
	}
	d.Log.Info("holds lease", attrs...)
	if err := d.checkUnderlayOutside(d.network.Network); err != nil {
		return err
	}
	return d.checkOverlap()
}

func (d *daemon) checkUnderlayOutside(network netip.Prefix) error {
	if ip := d.publicIP(); network.Contains(ip) {
		return fmt.Errorf("public-ip %s lies inside Network %s: the underlay and the overlay must not overlap", ip, network)
	}
	return nil
}

// nodeID reads or makes the node's id. A failed start keeps none that it made, which
// an image of this disk would carry, unless a lease still has it: start after failed
// start would leave one more.
func (d *daemon) nodeID() (string, error) {
	_, err := os.Stat(subnet.NodeIDPath(d.StateDir))
	fresh := errors.Is(err, os.ErrNotExist)
	id, err := subnet.LoadNodeID(d.StateDir)
	if err == nil && fresh {
		d.onUndo(func(context.Context) {
			if !d.leaseStays {
				os.Remove(subnet.NodeIDPath(d.StateDir))
			}
		})
	}
	return id, err
}

// previousSubnet is what an earlier run, or Flannel, wrote to the subnet file.
func (d *daemon) previousSubnet() netip.Prefix {
	e, err := subnet.ReadEnv(d.SubnetFilePath())
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			d.Log.Warn("the subnet of the last run is not known; if etcd has forgotten it too, this host takes another: make the subnet file readable", "err", err)
		}
		return noSubnet
	}
	return e.Subnet.Masked()
}

// checkOverlap refuses a network that something else on this host has a part
// of. The container bridge in our own subnet is as it should be; one that is
// still in a former subnet, however often twill was restarted since, hides a
// peer's, which is said.
func (d *daemon) checkOverlap() error {
	err := routes.Overlaps(d.network.Network, d.TunName, d.own.Subnet)
	if err == nil {
		return nil
	}
	former, listErr := routes.ContainerSubnets(d.network.Network, d.network.SubnetLen)
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	former = slices.DeleteFunc(append(former, d.previous), func(p netip.Prefix) bool { return !p.IsValid() || p == d.own.Subnet })
	if routes.Overlaps(d.network.Network, d.TunName, append(former, d.own.Subnet)...) != nil {
		return err
	}
	d.Log.Warn("containers are still in a former subnet; restart the container runtime, which then takes the new one", "subnet", d.own.Subnet, "former", former)
	return nil
}
