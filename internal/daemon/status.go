package daemon

import (
	"time"

	"twill/internal/api"
	"twill/tunnel"
)

func (d *daemon) status() api.Status {
	table := d.table.Load()
	v, own := table.View, table.View.Own
	stats := d.tunnel.Stats()
	census := takeCensus(table, time.Now())
	condition := d.condition(v, census, &stats)
	found := condition.findings()
	s := api.Status{
		Schema:     api.Schema,
		Version:    d.Version,
		Node:       own.Node,
		NodeID:     own.NodeID,
		Network:    d.network.Network,
		Subnet:     own.Subnet,
		PublicIP:   own.PublicIP,
		Port:       own.Port,
		Device:     d.TunName,
		MTU:        int(d.mtu.Load()),
		Queues:     d.Queues,
		Started:    d.started,
		Peers:      len(v.Peers),
		PeerStates: census.states,
		Skipped:    len(v.Skipped),
		Etcd: api.Etcd{
			Reachable: v.Etcd.Serves || v.Etcd.Refuses,
			Refuses:   v.Etcd.Refuses,
			Since:     v.Etcd.Since,
			Error:     v.Etcd.Err,
			Revision:  v.Revision,
			Latency:   condition.latency.Seconds(),
			Cached:    v.Cached,
		},
		Problems: found.problems,
		Notices:  found.notices,
		Offloads: offloads(d.tunnel.Modes()),
		Tx:       counters(stats.Tx),
		Rx:       counters(stats.Rx),
	}
	if condition.leaseKnown {
		left := condition.leaseLeft.Seconds()
		s.LeaseLeft = &left
	}
	return s
}

func counters(c tunnel.Counters) api.Counters {
	return api.Counters{Packets: c.Packets, Bytes: c.Bytes, Drops: dropReasons(c.Drops[:])}
}

// dropReasons names the counters, indexed by tunnel.DropReason, that are not 0.
func dropReasons(drops []uint64) map[string]uint64 {
	named := map[string]uint64{}
	for reason, n := range drops {
		if n != 0 {
			named[tunnel.DropReason(reason).String()] = n
		}
	}
	return named
}

func offloads(modes []tunnel.Mode) []api.Offload {
	out := make([]api.Offload, 0, len(modes))
	for _, m := range modes {
		out = append(out, api.Offload{Name: m.Offload, On: m.On, Why: m.Why})
	}
	return out
}
