package daemon

import (
	"fmt"
	"strings"
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
	d.news.changes(former.View, v)
	if status != d.said {
		d.said = status
		d.notify(status)
	}
}

func (d *daemon) notifyReady() {
	v := d.table.Load().View
	for _, s := range v.Skipped {
		d.news.skipped(s)
	}
	d.logOffloads()
	d.Log.Info("ready", "subnet", d.own.Subnet, "device", d.TunName, "mtu", d.mtu.Load(), "queues", d.Queues, "peers", len(v.Peers), "subnet-file", d.SubnetFilePath())
	d.notify(systemd.SdNotifyReady + "\n" + d.statusLine(v))
}

// logOffloads says which offloads are in use, and of each other one why not.
func (d *daemon) logOffloads() {
	var on []string
	for _, m := range d.tunnel.Modes() {
		if m.On {
			on = append(on, m.Offload)
			continue
		}
		d.Log.Info("offload is not used", "name", m.Offload, "why", m.Why)
	}
	d.Log.Info("offloads in use", "names", strings.Join(on, ","))
}

func (d *daemon) statusLine(v subnet.View) string {
	etcd := ""
	if trouble := etcdTrouble(v.Etcd); trouble != "" {
		etcd = ", " + trouble
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
	_, err := systemd.SdNotify(false, state)
	d.troubles.notify.note(err)
}
