package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"twill/internal/api"
	"twill/internal/netfilter"
	"twill/routes"
	"twill/subnet"
	"twill/tunnel"
)

// firewallPatience bounds the wait for iptables, below the control socket's own
// timeout.
const firewallPatience = 3 * time.Second

// A tracer follows one packet through this host, as the kernel and the tunnel would
// take it. The first step that stops it gives verdict and remedy.
type tracer struct {
	*daemon
	api.Trace
	table  *Table
	bridge string // of our pods; "": there is none
	in     string // interface that the packet comes in by; "": it is this host's own
}

// trace answers an api.TracePath.
func (d *daemon) trace(r *http.Request) (api.Trace, error) {
	t := &tracer{daemon: d, table: d.table.Load()}
	if err := t.read(r); err != nil {
		return api.Trace{}, err
	}
	t.follow(r.Context())
	t.Schema = api.Schema
	return t.Trace, nil
}

func (t *tracer) read(r *http.Request) (err error) {
	q := r.URL.Query()
	if t.To, err = netip.ParseAddr(q.Get("to")); err != nil || !t.To.Is4() {
		return httpErrorf(http.StatusBadRequest, "to %q: want an IPv4 address", q.Get("to"))
	}
	if t.Size, err = strconv.Atoi(q.Get("size")); err != nil || t.Size < minTraceSize || t.Size > maxMTU {
		return httpErrorf(http.StatusBadRequest, "size %q: want %d to %d bytes", q.Get("size"), minTraceSize, maxMTU)
	}
	if t.DF, err = strconv.ParseBool(q.Get("df")); err != nil {
		return httpErrorf(http.StatusBadRequest, "df %q: want true or false", q.Get("df"))
	}
	own := t.table.View.Own.Subnet
	if t.bridge, err = routes.BridgeOf(own); err != nil {
		return err
	}
	from := q.Get("from")
	if from == "" {
		t.From = own.Addr().Next().Next() // the first pod, behind the bridge's own address
		if t.bridge == "" {
			t.From = own.Addr() // this host, by the device
		}
	} else if t.From, err = netip.ParseAddr(from); err != nil || !t.From.Is4() {
		return httpErrorf(http.StatusBadRequest, "from %q: want an IPv4 address", from)
	}
	hosts, err := routes.HostAddresses()
	if err != nil {
		return err
	}
	if !slices.Contains(hosts, t.From) {
		t.in = t.bridge
	}
	return nil
}

// minTraceSize is a UDP datagram without payload.
const minTraceSize = 20 + 8

func (t *tracer) ok(step, format string, args ...any) {
	t.Steps = append(t.Steps, api.TraceStep{Step: step, OK: true, Found: fmt.Sprintf(format, args...)})
}

// stop ends the trace.
func (t *tracer) stop(step, remedy, format string, args ...any) {
	t.Verdict, t.Remedy = fmt.Sprintf(format, args...), remedy
	t.Steps = append(t.Steps, api.TraceStep{Step: step, Found: t.Verdict})
}

func (t *tracer) pass(format string, args ...any) {
	t.Passes, t.Verdict = true, fmt.Sprintf(format, args...)
}

// follow takes the packet's steps until one stops it.
func (t *tracer) follow(ctx context.Context) {
	if !t.route() || !t.forwarded(ctx) || !t.tunnelled() || !t.reached() {
		return
	}
	i, _ := t.table.find(t.To.String())
	p := t.table.View.Peers[i]
	t.pass("the packet goes to %s at %s, which delivers it if its own bridge and firewall let it", name(p), p.Endpoint)
}

// route asks the kernel, and returns whether the packet goes into the tunnel.
func (t *tracer) route() bool {
	const step = "route"
	network, own := t.network.Network, t.table.View.Own.Subnet
	way, err := routes.Lookup(t.From, t.To, t.in)
	switch {
	case errors.Is(err, routes.ErrMartian):
		t.stop(step, fmt.Sprintf("is %s an address behind %s? else: sysctl -w net.ipv4.conf.%s.rp_filter=2", t.From, t.in, t.in), "%v", err)
	case err != nil:
		t.stop(step, fmt.Sprintf("ip route get %s; `twill status` says whether device and route are in place", t.To), "%v", err)
	case way.Refused != "":
		t.stop(step, fmt.Sprintf("ip route get %s, and delete that route if it should not be", t.To), "the kernel has a route of type %s to %s", way.Refused, t.To)
	case way.Local:
		t.ok(step, "%s is an address of this host, on %s", t.To, way.Device)
		t.pass("%s is an address of this host: the packet is delivered here", t.To)
	case way.Device == t.TunName:
		t.ok(step, "into %s, MTU %d", way.Device, way.MTU)
		return true
	case own.Contains(t.To) && way.Device == t.bridge:
		t.ok(step, "to the bridge %s: %s is in this host's own subnet %s", way.Device, t.To, own)
		t.pass("the packet stays on this host, on %s, and does not meet twill", way.Device)
	case network.Contains(t.To):
		t.stop(step, fmt.Sprintf("ip route show to match %s, and take away what is in the way", t.To), "%s is in the network %s, but its route leads into %s, past twill", t.To, network, way.Device)
	default:
		t.ok(step, "%s is outside of the network %s: by %s%s", t.To, network, way.Device, via(way))
		t.pass("the packet does not meet twill: the kernel sends it by %s%s", way.Device, via(way))
	}
	return false
}

func via(w routes.Way) string {
	if !w.Gateway.IsValid() {
		return ""
	}
	return " via " + w.Gateway.String()
}

// forwarded judges FORWARD for a packet of a pod.
func (t *tracer) forwarded(ctx context.Context) bool {
	const step = "firewall"
	if t.in == "" {
		t.ok(step, "this host's own packets do not pass FORWARD")
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, firewallPatience)
	defer cancel()
	tables, err := netfilter.Filters(ctx)
	if err != nil {
		t.ok(step, "not known: %v", err)
		return true
	}
	for _, table := range tables {
		v := table.Judge("FORWARD", netfilter.Packet{In: t.in, Out: t.TunName, Src: t.From, Dst: t.To, Protocol: "udp"})
		if !v.Accept {
			t.stop(step, fmt.Sprintf("%s -I FORWARD -s %s -j ACCEPT; %s -I FORWARD -d %s -j ACCEPT; or start twill with --iptables-forward-rules", table.Program, t.network.Network, table.Program, t.network.Network),
				"FORWARD drops it, by %s: `%s`", table.Program, v.By)
			return false
		}
		if len(v.Unsure) > 0 {
			t.ok(step, "accepted by `%s`, unless one of these matches: %s", v.By, strings.Join(v.Unsure, "; "))
			continue
		}
		t.ok(step, "accepted by `%s`", v.By)
	}
	droppers, _ := netfilter.FindDroppers(ctx) // without nft none are known
	for _, chain := range droppers.Forward {
		t.ok(step, "not known: the chain %s of nftables drops what no rule of it accepts; `nft list chain %s` shows them", chain, chain)
	}
	return true
}

// tunnelled asks the packet path itself.
func (t *tracer) tunnelled() bool {
	v, err := t.tunnel.Trace(t.From, t.To, t.Size, t.DF)
	if err != nil {
		t.stop("tunnel", "", "%v", err)
		return false
	}
	if v.Peer == nil || v.Dropped == tunnel.DropForeignSource || v.Dropped == tunnel.DropMartian {
		return t.nobody(v.Dropped)
	}
	i, err := t.table.find(t.To.String())
	if err != nil {
		t.stop("lease", "try again", "the leases have just changed: %v", err)
		return false
	}
	p := t.table.View.Peers[i]
	t.ok("source", "%s may send from this host", t.From)
	kind := "twill"
	if !runsTwill(p) {
		kind = "Flannel"
	}
	t.ok("lease", "%s, of %s (%s) at %s", p.Subnet, name(p), kind, p.Endpoint)
	limit := int(t.mtu.Load())
	if v.Limit != 0 {
		limit = v.Limit
	}
	switch {
	case v.Dropped == tunnel.DropTooBig:
		t.stop("size", fmt.Sprintf("send at most %d bytes; the sender is told so by ICMP, which a firewall in the pod's way must let through", limit),
			"%d bytes with DF are more than the %d that the path takes", t.Size, limit)
		return false
	case v.Dropped != 0:
		t.stop("tunnel", "send to an address of one pod", "the tunnel drops it: %s", v.Dropped)
		return false
	case v.Fragments:
		t.ok("size", "%d bytes without DF go in fragments: the path takes %d", t.Size, limit)
	case t.Size > limit && t.DF:
		t.stop("size", fmt.Sprintf("send at most %d bytes", limit), "%d bytes with DF are more than the MTU %d of %s: the kernel tells the sender", t.Size, limit, t.TunName)
		return false
	default:
		t.ok("size", "%d bytes pass: the path takes %d", t.Size, limit)
	}
	return true
}

// nobody explains why the packet has no peer, or is not let out.
func (t *tracer) nobody(reason tunnel.DropReason) bool {
	switch reason {
	case tunnel.DropForeignSource, tunnel.DropMartian:
		t.stop("source", fmt.Sprintf("give the pod an address in %s (restart the container runtime with twill's subnet), or see --spoof-check", t.table.View.Own.Subnet),
			"%s is neither in this host's subnet %s nor an address of this host: dropped as %s", t.From, t.table.View.Own.Subnet, reason)
	case tunnel.DropNoTable:
		t.stop("lease", "systemctl restart twill, which takes another subnet", "this host holds no lease now: everything is dropped")
	case tunnel.DropLoop:
		t.stop("lease", "change Network so that it does not contain the hosts' addresses", "%s is a peer's underlay address: it cannot go through the tunnel", t.To)
	case tunnel.DropNoPeer:
		if s, ok := t.skipped(); ok {
			t.stop("lease", "put that right on the host that wrote it, or delete the key; `twill leases` lists all", "the lease %s is not used: %s", s.Lease.Name, s.Problem)
			break
		}
		t.stop("lease", fmt.Sprintf("start twill on the host that should have %s; `twill leases` lists those in etcd", t.To), "no lease holds %s: the sender is told that the net is unreachable", t.To)
	default:
		t.stop("tunnel", "send to an address of one pod", "the tunnel drops it: %s", reason)
	}
	return false
}

// skipped returns the lease that holds the destination and is not used.
func (t *tracer) skipped() (subnet.Skipped, bool) {
	for _, s := range t.table.View.Skipped {
		if s.Lease.Subnet.IsValid() && s.Lease.Subnet.Contains(t.To) {
			return s, true
		}
	}
	return subnet.Skipped{}, false
}

// reached looks at the peer, and the way to it.
func (t *tracer) reached() bool {
	i, err := t.table.find(t.To.String())
	if err != nil {
		return false
	}
	p := t.table.View.Peers[i]
	way, err := routes.Lookup(netip.Addr{}, p.Endpoint.Addr(), "")
	switch {
	case err != nil:
		t.stop("underlay", fmt.Sprintf("ip route get %s; add a route", p.Endpoint.Addr()), "there is no route to %s: %v", p.Endpoint.Addr(), err)
		return false
	case way.Refused != "":
		t.stop("underlay", fmt.Sprintf("ip route get %s, and delete that route if it should not be", p.Endpoint.Addr()), "the kernel has a route of type %s to %s", way.Refused, p.Endpoint.Addr())
		return false
	case way.Device == t.TunName:
		t.stop("underlay", "change Network so that it does not contain the hosts' addresses", "the route to %s leads back into %s", p.Endpoint.Addr(), t.TunName)
		return false
	}
	t.ok("underlay", "%s by %s%s, MTU %d", p.Endpoint, way.Device, via(way), way.MTU)
	a := reportPeer(p, t.table.Peers[i].Stats(), int(t.mtu.Load()), time.Now())
	switch a.State {
	case api.StateUnreachable:
		t.stop("peer", a.Remedy, "%s is sent the packet, but does not answer: %s", name(p), a.Reason)
		return false
	case api.StateVanished:
		t.ok("peer", "its lease is gone from etcd; packets go there for the grace time only")
	case api.StateUp:
		t.ok("peer", "up")
	default:
		t.ok("peer", "%s: %s", a.State, a.Reason)
	}
	return true
}
