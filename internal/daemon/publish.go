package daemon

import (
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"twill/subnet"
)

// publish puts a new view in force; the packet path sees it at its next burst.
func (d *daemon) publish(v subnet.View) {
	former := d.table.Load()
	table := former.Next(v)
	d.tunnel.SetTable(table.Tunnel)
	d.table.Store(table)
	status := d.statusLine(v)
	if former == nil {
		d.said = status // READY=1 says it too
		return
	}
	d.logChanges(former.View, v)
	if status != d.said {
		d.said = status
		d.notify(status)
	}
}

// logChanges says which peers came, went or moved.
func (d *daemon) logChanges(old, new subnet.View) {
	for was, p := range subnet.Changes(old.Peers, new.Peers) {
		switch {
		case was == nil:
			d.Log.Info("peer joined", "subnet", p.Subnet, "endpoint", p.Endpoint, "node", p.Node)
		case p == nil:
			d.Log.Info("peer left", "subnet", was.Subnet, "endpoint", was.Endpoint, "node", was.Node)
		case was.Endpoint != p.Endpoint:
			d.Log.Info("peer moved", "subnet", p.Subnet, "endpoint", p.Endpoint, "from", was.Endpoint, "node", p.Node)
		case was.Vanished.IsZero() && !p.Vanished.IsZero():
			d.Log.Info("peer's lease vanished; it stays for the grace time", "subnet", p.Subnet, "node", p.Node, "grace", d.LeaseGrace)
		case !was.Vanished.IsZero() && p.Vanished.IsZero():
			d.Log.Info("peer's lease is back", "subnet", p.Subnet, "node", p.Node)
		}
	}
	problems := make(map[string]string, len(old.Skipped))
	for _, s := range old.Skipped {
		problems[s.Lease.Name] = s.Problem
	}
	for _, s := range new.Skipped {
		if problems[s.Lease.Name] != s.Problem {
			d.Log.Warn("lease is not used", "lease", s.Lease.Name, "problem", s.Problem)
		}
	}
}

func (d *daemon) notifyReady() {
	v := d.table.Load().View
	for _, s := range v.Skipped {
		d.Log.Warn("lease is not used", "lease", s.Lease.Name, "problem", s.Problem)
	}
	for _, m := range d.tunnel.Modes() {
		d.Log.Info("offload", "name", m.Offload, "on", m.On, "why", m.Why)
	}
	d.Log.Info("ready", "subnet", d.own.Subnet, "device", d.TunName, "mtu", d.mtu.Load(), "queues", d.Queues, "peers", len(v.Peers), "subnet-file", d.subnetFile())
	d.notify(systemd.SdNotifyReady + "\n" + d.statusLine(v))
}

func (d *daemon) statusLine(v subnet.View) string {
	etcd := ""
	if !v.Etcd.Reachable {
		etcd = ", etcd is away"
	}
	if !v.Cached.IsZero() {
		etcd += ", from cache since " + v.Cached.UTC().Format(time.RFC3339)
	}
	if v.ConfigProblem != "" {
		etcd += ", the network config in etcd is another"
	}
	return fmt.Sprintf("STATUS=holds %s of %s, %d peers%s", v.Own.Subnet, d.network.Network, len(v.Peers), etcd)
}

// notify tells systemd, if it started us.
func (d *daemon) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		d.Log.Warn("could not notify systemd", "err", err)
	}
}
