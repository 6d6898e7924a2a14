package subnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	cacheVersion = 1
	// driftShare of the lease time is left as a margin for clocks that do not
	// run at etcd's speed. Quartz is better by two orders of magnitude.
	driftShare = 100
)

// Cached is what a host has to know to forward without etcd.
type Cached struct {
	Saved  time.Time
	NodeID string
	// Prefix and Endpoints say whose data this is; ClusterID is etcd's own word.
	Prefix    string
	Endpoints []string
	ClusterID uint64
	Revision  int64
	Config    Config
	Own       Lease
	// TTL is how long etcd keeps Own at least, from confirmed on.
	TTL       time.Duration
	confirmed instant
	Peers     []Lease // one whose value does not parse has Err
}

// rawCached is the file.
type rawCached struct {
	Version   int
	Saved     time.Time
	NodeID    string
	Prefix    string
	Endpoints []string
	ClusterID uint64
	Revision  int64
	Config    Config
	Own       rawLease
	TTL       int64 // seconds
	Confirmed instant
	Peers     []rawLease
}

// rawLease is a key under subnets/ with what etcd says of it.
type rawLease struct {
	Name           string
	Value          json.RawMessage
	ID             clientv3.LeaseID
	CreateRevision int64
	ModRevision    int64
}

func (c Cached) raw() rawCached {
	r := rawCached{
		Version: cacheVersion, Saved: c.Saved, NodeID: c.NodeID,
		Prefix: c.Prefix, Endpoints: c.Endpoints, ClusterID: c.ClusterID,
		Revision: c.Revision, Config: c.Config, Own: rawLeaseOf(c.Own),
		TTL: int64(c.TTL / time.Second), Confirmed: c.confirmed,
		Peers: make([]rawLease, 0, len(c.Peers)),
	}
	for _, l := range c.Peers {
		r.Peers = append(r.Peers, rawLeaseOf(l))
	}
	return r
}

func rawLeaseOf(l Lease) rawLease {
	return rawLease{Name: l.Name, Value: l.Value.Marshal(), ID: l.ID, CreateRevision: l.CreateRevision, ModRevision: l.ModRevision}
}

func (r rawLease) lease() Lease {
	l := Lease{Name: r.Name, ID: r.ID, CreateRevision: r.CreateRevision, ModRevision: r.ModRevision}
	l.parse(r.Value)
	return l
}

// parseCached reads the file as it would etcd's data: everything is checked, and
// a peer that does not parse costs that peer.
func parseCached(raw []byte) (Cached, error) {
	var version struct{ Version int }
	if err := unmarshal(raw, &version); err != nil {
		return Cached{}, err
	}
	if version.Version != cacheVersion {
		return Cached{}, fmt.Errorf("field Version %d: this twill reads %d", version.Version, cacheVersion)
	}
	var r rawCached
	if err := unmarshal(raw, &r); err != nil {
		return Cached{}, err
	}
	c := Cached{
		Saved: r.Saved, NodeID: r.NodeID, Prefix: r.Prefix, Endpoints: r.Endpoints, ClusterID: r.ClusterID,
		Revision: r.Revision, Config: r.Config, Own: r.Own.lease(), TTL: time.Duration(r.TTL) * time.Second, confirmed: r.Confirmed,
	}
	switch {
	case c.Saved.IsZero():
		return Cached{}, errors.New("field Saved: required")
	case c.Config == Config{}:
		return Cached{}, errors.New("field Config: required")
	case c.Own.Err != nil:
		return Cached{}, fmt.Errorf("field Own: %w", c.Own.Err)
	case c.Revision < 1:
		return Cached{}, fmt.Errorf("field Revision %d: want 1 or higher", c.Revision)
	case r.TTL < 0 || r.TTL > int64(maxTTL/time.Second):
		return Cached{}, fmt.Errorf("field TTL %d: want 0 to %.0f seconds", r.TTL, maxTTL.Seconds())
	}
	if err := c.Config.Check(c.Own.Subnet); err != nil {
		return Cached{}, fmt.Errorf("field Own: %w", err)
	}
	if problem := Problem(c.Own, c.Config, netip.Prefix{}); problem != "" {
		return Cached{}, fmt.Errorf("field Own: %s", problem)
	}
	for _, l := range r.Peers {
		c.Peers = append(c.Peers, l.lease())
	}
	return c, nil
}

// maxTTL is etcd's longest lease (lease.MaxLeaseTTL).
const maxTTL = 9_000_000_000 * time.Second

func (c Cached) usable(id Identity, etcd EtcdConfig, at instant) error {
	switch own := c.Own; {
	case c.NodeID != id.NodeID:
		return fmt.Errorf("written for node id %q, this host has %q", c.NodeID, id.NodeID)
	case c.Prefix != etcd.prefix():
		return fmt.Errorf("written for etcd-prefix %q, now it is %q", c.Prefix, etcd.prefix())
	case !slices.ContainsFunc(c.Endpoints, func(e string) bool { return slices.Contains(etcd.Endpoints, e) }):
		return fmt.Errorf("written for the etcd at %q, which has no endpoint in common with %q", c.Endpoints, etcd.Endpoints)
	case !id.Owns(own.Value):
		return fmt.Errorf("lease %s belongs to node id %q", own.Name, own.NodeID)
	case own.PublicIP != id.PublicIP:
		return fmt.Errorf("lease %s names the public IP %s, this host has %s: peers would refuse its packets", own.Name, own.PublicIP, id.PublicIP)
	case id.Port != 0 && own.Port != id.Port:
		return fmt.Errorf("lease %s names port %d, now it is %d: peers would not reach it", own.Name, own.Port, id.Port)
	case own.Reserved():
		return nil
	}
	age, err := c.confirmed.since(at)
	if err != nil {
		return fmt.Errorf("the age of lease %s is not known: %w", c.Own.Name, err)
	}
	if limit := c.TTL - c.TTL/driftShare; age < 0 || age >= limit {
		return fmt.Errorf("lease %s was last confirmed %v ago, more than its %v: another host may hold the subnet by now",
			c.Own.Name, age.Round(time.Second), limit)
	}
	return nil
}
