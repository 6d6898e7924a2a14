package daemon

import (
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"twill/subnet"
	"twill/tunnel"
)

// nextPeers returns the tunnel's peers for a new view, one for each of its peers.
// One that stays where it is remains the same, and so goes on counting.
func (s *state) nextPeers(view []*subnet.Peer) []*tunnel.Peer {
	peers := make([]*tunnel.Peer, 0, len(view))
	i := 0 // in s; both are in order of subnet
	for _, p := range view {
		for i < len(s.peers) && s.view.Peers[i].Subnet.Addr().Less(p.Subnet.Addr()) {
			i++
		}
		if i < len(s.peers) && sameTarget(s.view.Peers[i], p) {
			peers = append(peers, s.peers[i])
		} else {
			peers = append(peers, newPeer(p))
		}
	}
	return peers
}

// sameTarget reports whether packets go to both in the same way.
func sameTarget(a, b *subnet.Peer) bool {
	return a == b || a.Subnet == b.Subnet && a.Endpoint == b.Endpoint && runsTwill(a) == runsTwill(b)
}

func runsTwill(p *subnet.Peer) bool { return p.Proto > 0 }

func newPeer(p *subnet.Peer) *tunnel.Peer {
	if runsTwill(p) {
		return tunnel.NewTwillPeer(p.Subnet, p.Endpoint)
	}
	return tunnel.NewPeer(p.Subnet, p.Endpoint)
}

// publish puts a new view in force; the packet path sees it at its next burst.
func (d *daemon) publish(v subnet.View) {
	former := d.state.Load()
	if former == nil {
		former = &state{}
	}
	peers := former.nextPeers(v.Peers)
	d.tunnel.SetTable(tunnel.NewTable(v.Own.Subnet, peers))
	first := d.state.Swap(&state{view: v, peers: peers}) == nil
	if !first {
		d.logChanges(former.view, v)
		if status := d.statusLine(v); status != d.said {
			d.said = status
			d.notify(status)
		}
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
	if !v.Cached.IsZero() {
		etcd += ", from cache since " + v.Cached.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("STATUS=holds %s of %s, %d peers%s", v.Own.Subnet, d.network.Network, len(v.Peers), etcd)
}

// notify tells systemd, if it started us.
func (d *daemon) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		d.Log.Warn("could not notify systemd", "err", err)
	}
}
