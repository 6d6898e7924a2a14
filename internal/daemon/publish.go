package daemon

import (
	"fmt"
	"net/netip"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"twill/subnet"
	"twill/tunnel"
)

// peerSet keeps the tunnel's peers from one table to the next, so that a peer
// that has not changed goes on counting.
type peerSet map[peerKey]*tunnel.Peer

type peerKey struct {
	subnet   netip.Prefix
	endpoint netip.AddrPort
	twill    bool // else Flannel, which gets all packets from one port
}

func keyOf(p subnet.Peer) peerKey { return peerKey{p.Subnet, p.Endpoint, p.Proto > 0} }

func (k peerKey) newPeer() *tunnel.Peer {
	if k.twill {
		return tunnel.NewTwillPeer(k.subnet, k.endpoint)
	}
	return tunnel.NewPeer(k.subnet, k.endpoint)
}

// next returns the tunnel's peers for v, and the set for the time after.
func (s peerSet) next(v subnet.View) ([]*tunnel.Peer, peerSet) {
	peers := make([]*tunnel.Peer, 0, len(v.Peers))
	set := make(peerSet, len(v.Peers))
	for _, p := range v.Peers {
		key := keyOf(p)
		peer, ok := s[key]
		if !ok {
			peer = key.newPeer()
		}
		set[key] = peer
		peers = append(peers, peer)
	}
	return peers, set
}

// publish puts a new view in force; the packet path sees it at its next burst.
func (d *daemon) publish(v subnet.View) {
	former := d.state.Load()
	var known peerSet
	if former != nil {
		known = former.peers
	}
	peers, set := known.next(v)
	d.tunnel.SetTable(tunnel.NewTable(v.Own.Subnet, peers))
	d.state.Store(&state{view: v, peers: set})
	if former != nil {
		d.logChanges(former.view, v)
		if status := d.statusLine(v); status != d.said {
			d.said = status
			d.notify(status)
		}
	}
}

// logChanges says which peers came, went or moved.
func (d *daemon) logChanges(old, new subnet.View) {
	before := make(map[netip.Prefix]subnet.Peer, len(old.Peers))
	for _, p := range old.Peers {
		before[p.Subnet] = p
	}
	for _, p := range new.Peers {
		was, known := before[p.Subnet]
		delete(before, p.Subnet)
		switch {
		case !known:
			d.Log.Info("peer joined", "subnet", p.Subnet, "endpoint", p.Endpoint, "node", p.Node)
		case was.Endpoint != p.Endpoint:
			d.Log.Info("peer moved", "subnet", p.Subnet, "endpoint", p.Endpoint, "from", was.Endpoint, "node", p.Node)
		case was.Vanished.IsZero() && !p.Vanished.IsZero():
			d.Log.Info("peer's lease vanished; it stays for the grace time", "subnet", p.Subnet, "node", p.Node, "grace", d.LeaseGrace)
		case !was.Vanished.IsZero() && p.Vanished.IsZero():
			d.Log.Info("peer's lease is back", "subnet", p.Subnet, "node", p.Node)
		}
	}
	for _, p := range before {
		d.Log.Info("peer left", "subnet", p.Subnet, "endpoint", p.Endpoint, "node", p.Node)
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
	v := d.state.Load().view
	for _, s := range v.Skipped {
		d.Log.Warn("lease is not used", "lease", s.Lease.Name, "problem", s.Problem)
	}
	for _, m := range d.tunnel.Modes() {
		d.Log.Info("offload", "name", m.Offload, "on", m.On, "why", m.Why)
	}
	d.Log.Info("ready", "subnet", d.own.Subnet, "device", d.TunName, "mtu", d.MTU, "queues", d.Queues, "peers", len(v.Peers), "subnet-file", d.subnetFile())
	d.said = d.statusLine(v)
	d.notify(systemd.SdNotifyReady + "\n" + d.said)
}

func (d *daemon) statusLine(v subnet.View) string {
	etcd := ""
	if !v.Etcd.Reachable {
		etcd = ", etcd is away"
	}
	return fmt.Sprintf("STATUS=holds %s of %s, %d peers%s", v.Own.Subnet, d.network.Network, len(v.Peers), etcd)
}

// notify tells systemd, if it started us.
func (d *daemon) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		d.Log.Warn("could not notify systemd", "err", err)
	}
}
