package daemon

import (
	"twill/internal/api"
	"twill/tunnel"
)

func (d *daemon) status() api.Status {
	v := d.table.Load().View
	stats := d.tunnel.Stats()
	own := v.Own
	return api.Status{
		Schema:   api.Schema,
		Version:  d.Version,
		Node:     own.Node,
		NodeID:   own.NodeID,
		Network:  d.network.Network,
		Subnet:   own.Subnet,
		PublicIP: own.PublicIP,
		Port:     own.Port,
		Device:   d.TunName,
		MTU:      int(d.mtu.Load()),
		Queues:   d.Queues,
		Peers:    len(v.Peers),
		Skipped:  len(v.Skipped),
		Etcd: api.Etcd{
			Reachable: v.Etcd.Serves || v.Etcd.Refuses,
			Refuses:   v.Etcd.Refuses,
			Since:     v.Etcd.Since,
			Error:     v.Etcd.Err,
			Revision:  v.Revision,
			Cached:    v.Cached,
		},
		Problems: d.problems(v),
		Offloads: offloads(d.tunnel.Modes()),
		Tx:       counters(stats.Tx),
		Rx:       counters(stats.Rx),
	}
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
