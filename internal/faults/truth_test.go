package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"twill/internal/api"
	"twill/internal/lab"
)

// markerSubnet is a lease that the operator writes anew after each fault: a
// daemon that shows it has a watch that works, not just a table that happens to
// be right.
var markerSubnet = netip.MustParsePrefix("10.5.250.0/24")

// freshSubnet is one that a fault may give to somebody at freshPort.
var freshSubnet = netip.MustParsePrefix("10.5.251.0/24")

const freshPort = 10000

// firstMark is the first marker's port; each next one has another.
const firstMark = 20000

// waitTruth writes a new marker and waits for agreement.
func (w *world) waitTruth() {
	w.t.Helper()
	w.mark()
	w.waitAgreement()
}

// waitAgreement waits until every daemon that runs has what etcd has, and nothing
// else.
func (w *world) waitAgreement() {
	w.t.Helper()
	w.waitFor("every table to equal etcd's content", func() error {
		truth, err := w.truth()
		if err != nil {
			return err
		}
		for i, h := range w.hosts {
			if w.ended[i] {
				continue
			}
			if err := agrees(w.ctx, h, truth); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
		}
		if w.crowd != nil {
			return w.crowd.agrees(truth)
		}
		return nil
	})
}

// mark writes a new marker as soon as etcd serves.
func (w *world) mark() {
	w.t.Helper()
	w.marks++
	w.put(leaseKey(markerSubnet), leaseValue("marker", anywhere(firstMark+w.marks)))
}

// owner is what a lease says of its holder.
type owner struct {
	endpoint netip.AddrPort
	node     string
}

// truth is who holds what, read from etcd by none of twill's own code: every key
// whose value a host would write. What a fault puts there in any other form is
// nobody's lease.
func (w *world) truth() (map[netip.Prefix]owner, error) {
	resp, err := w.etcd.client.Get(w.rpc(), prefix+"/subnets/", clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	truth := map[netip.Prefix]owner{}
	for _, kv := range resp.Kvs {
		var v struct {
			PublicIP    netip.Addr
			BackendData struct {
				Node string
				Port uint16
			}
		}
		subnet, err := netip.ParsePrefix(strings.Replace(path.Base(string(kv.Key)), "-", "/", 1))
		if err != nil || json.Unmarshal(kv.Value, &v) != nil || strings.HasPrefix(v.BackendData.Node, hostile) {
			continue
		}
		truth[subnet] = owner{netip.AddrPortFrom(v.PublicIP, v.BackendData.Port), v.BackendData.Node}
	}
	return truth, nil
}

// hostile begins the node name of every lease that must not be used.
const hostile = "hostile"

// agrees compares a daemon's table with the truth: its own subnet is its own, and
// all others but those at its own endpoint are its peers. A vanished peer that is kept for the grace time is
// not the truth.
func agrees(ctx context.Context, h *lab.Host, truth map[netip.Prefix]owner) error {
	var status api.Status
	if err := api.Get(ctx, socket(h), api.StatusPath, &status); err != nil {
		return err
	}
	if own, held := truth[status.Subnet]; !held || own.node != h.Name {
		return fmt.Errorf("forwards %s, whose lease is %q's", status.Subnet, own.node)
	}
	if !status.Etcd.Reachable || status.Etcd.Refuses {
		return fmt.Errorf("says that etcd is away or refuses: %s", status.Etcd.Error)
	}
	var table api.Peers
	if err := api.Get(ctx, socket(h), api.PeersPath, &table); err != nil {
		return err
	}
	peers := map[netip.Prefix]owner{}
	for _, p := range table.Peers {
		node := p.Node
		if p.State == api.StateVanished {
			node += " (vanished)"
		}
		peers[p.Subnet] = owner{p.Endpoint, node}
	}
	want := maps.Clone(truth)
	delete(want, status.Subnet)
	self := netip.AddrPortFrom(status.PublicIP, status.Port)
	maps.DeleteFunc(want, func(_ netip.Prefix, o owner) bool { return o.endpoint == self })
	if !maps.Equal(peers, want) {
		return fmt.Errorf("has peers %v, want %v", peers, want)
	}
	return nil
}
