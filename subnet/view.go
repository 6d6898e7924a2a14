package subnet

import (
	"fmt"
	"iter"
	"net/netip"
	"time"
)

// View is the network as this host sees it at one revision: immutable, made
// anew on each change. Consecutive views share the peers that have not changed.
type View struct {
	Revision int64 // of etcd
	Own      Lease
	Peers    []*Peer   // one of each subnet, in order
	Skipped  []Skipped // leases that are not used, and why
	Etcd     EtcdState
	// Cached is of when the peers are, after a start without etcd; zero once
	// they are etcd's.
	Cached time.Time
	// ConfigProblem says why this host is not as the network config in etcd
	// wants it, mostly because it changed in what takes a restart.
	ConfigProblem string
}

// Peer is a lease of another host that packets may go to.
type Peer struct {
	Lease
	Endpoint netip.AddrPort
	// Vanished is when the lease was seen to be gone; the peer stays for the
	// grace time. Zero for a lease that is there.
	Vanished time.Time
}

// Changes yields what is different between the peers of two views, in order of
// subnet: before is nil for a peer that came, after for one that went.
func Changes(before, after []*Peer) iter.Seq2[*Peer, *Peer] {
	return func(yield func(before, after *Peer) bool) {
		for len(before)+len(after) > 0 {
			b, a := first(before), first(after)
			switch order := comparePlaces(b, a); {
			case order < 0:
				a = nil
			case order > 0:
				b = nil
			}
			if b != nil {
				before = before[1:]
			}
			if a != nil {
				after = after[1:]
			}
			if a != b && !yield(b, a) {
				return
			}
		}
	}
}

func first(peers []*Peer) *Peer {
	if len(peers) == 0 {
		return nil
	}
	return peers[0]
}

// comparePlaces orders peers by subnet, and nil, the end of a list, last.
func comparePlaces(a, b *Peer) int {
	switch {
	case a == b:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return a.Subnet.Addr().Compare(b.Subnet.Addr())
}

// Skipped is a lease that costs no other lease anything: it is left out.
type Skipped struct {
	Lease   Lease
	Problem string
}

// EtcdState says whether etcd does what it is asked, and since when it does or
// does not.
type EtcdState struct {
	Serves  bool
	Refuses bool // does not serve, though it is there: no space, no right, no trust
	Since   time.Time
	Err     string // why it does not serve
}

// Problem says why a lease by itself cannot be used by a host that holds own,
// or "" if it can: the subnet must fit the config and not overlap ours, the
// endpoint must be an address that a host can have outside of the overlay.
func Problem(l Lease, c Config, own netip.Prefix) string {
	switch {
	case l.Err != nil:
		return l.Err.Error()
	case !l.UDP():
		return fmt.Sprintf("backend %q; twill carries udp only", l.BackendType)
	}
	if l.Subnet.Bits() != c.SubnetLen || !c.Network.Contains(l.Subnet.Addr()) {
		return fmt.Sprintf("subnet %s is not a /%d inside %s", l.Subnet, c.SubnetLen, c.Network)
	}
	if own.IsValid() && own.Overlaps(l.Subnet) {
		return fmt.Sprintf("subnet %s overlaps our own %s", l.Subnet, own)
	}
	return publicIPProblem(l.PublicIP, c.Network)
}

func publicIPProblem(ip netip.Addr, overlay netip.Prefix) string {
	switch {
	case !ip.Is4():
		return fmt.Sprintf("public IP %s is not an IPv4 address", ip)
	case overlay.Contains(ip):
		return fmt.Sprintf("public IP %s lies inside the overlay %s", ip, overlay)
	}
	for _, u := range ipv4Family.unusable {
		if u.Contains(ip) {
			return fmt.Sprintf("public IP %s lies in %s, where no host has its address", ip, u)
		}
	}
	return ""
}

// Problems says, by name, of each lease that a host under config c would not
// use, why.
func (s Snapshot) Problems(c Config) map[string]string {
	t := newTable(0)
	t.load(s, time.Time{})
	problems := map[string]string{}
	for _, skipped := range t.view(c, Lease{}, EtcdState{}).Skipped {
		problems[skipped.Lease.Name] = skipped.Problem
	}
	return problems
}

// Remedy says what to do about a lease that is not used.
func Remedy(l Lease) string {
	switch {
	case l.Err != nil:
		return "no daemon writes such a lease: find out what does, and delete the key (`etcdctl del`)"
	case !l.UDP():
		return fmt.Sprintf("move that host to twill or Flannel's udp backend; pods there are not reached over %q", l.BackendType)
	}
	return "correct it on the host that holds the lease (its --public-ip, its subnet), or delete the key (`etcdctl del`) if the host is gone"
}

// Note is worth telling about a lease that is used all the same.
func Note(l Lease) string {
	if l.IPv6Subnet.IsValid() {
		return fmt.Sprintf("IPv6 subnet %s is not used", l.IPv6Subnet)
	}
	return ""
}

// endpoint is where datagrams for l go: a lease of Flannel names no port, it
// listens on the network config's.
func endpoint(l Lease, c Config) netip.AddrPort {
	port := l.Port
	if port == 0 {
		port = c.Port
	}
	return netip.AddrPortFrom(l.PublicIP, port)
}
