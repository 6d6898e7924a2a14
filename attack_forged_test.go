//go:build attack

package main

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"

	"twill/internal/api"
	"twill/internal/daemon"
	"twill/internal/forge"
	"twill/internal/lab"
)

const (
	// forgedDatagrams come in from the underlay, forgedPackets go out from the
	// host and a pod, in all modes together. ATTACK_PACKETS changes the first.
	forgedDatagrams = 120_000
	forgedPackets   = 24_000
	// forgedBatch is sent before anybody looks: far less than any buffer on the
	// way holds, so that every single packet can be accounted for.
	forgedBatch = 200
	// insideBatch likewise, for packets from inside: few enough that no limit keeps
	// the daemon from answering all that it should.
	insideBatch = 80
	// forgedSeed is the seed unless ATTACK_SEED gives one.
	forgedSeed = 5
)

// TestForged lets a stranger on the underlay and a hostile pod send all that a
// generator can think of to a daemon, in each mode: what passes is exactly what
// the rules let pass, unchanged, and the counters account for every packet.
func TestForged(t *testing.T) {
	seed, datagrams := fromEnv(t, "ATTACK_SEED", forgedSeed), fromEnv(t, "ATTACK_PACKETS", forgedDatagrams)
	t.Logf("ATTACK_SEED=%d ATTACK_PACKETS=%d", seed, datagrams)
	a := newAssault(t, uint64(seed))
	modes := 0
	for _, offload := range []string{"all", "off"} {
		for _, check := range []string{"strict", "source", "off"} {
			modes++
			t.Run(fmt.Sprintf("offload %s, spoof-check %s", offload, check), func(t *testing.T) {
				a.t = t
				a.ctx = t.Context()
				d := a.begin(offload, check)
				a.fromUnderlay(datagrams / 6)
				a.fromInside(forgedPackets / 6)
				a.stop(d)
			})
		}
	}
}

func fromEnv(t *testing.T, variable string, otherwise int) int {
	s := os.Getenv(variable)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%q: want a number", variable, s)
	}
	return n
}

// assault is a target with a pod, and a stranger that also is two peers: it holds
// the addresses of their leases.
type assault struct {
	*cluster
	target, stranger *lab.Host
	pod              *lab.Namespace
	rules            forge.Rules
	generator        *forge.Generator
	peers            map[netip.AddrPort]*net.UDPConn // where the leases' tunnels would listen
	frames           uint16                          // outer IP IDs

	underlay, podCard *forge.Wire // senders: of the stranger, of the pod
	inPod             *forge.Wire // records what the pod gets
}

func newAssault(t *testing.T, seed uint64) *assault {
	a := &assault{cluster: newCluster(t, 2, `{"Network":"10.5.0.0/16","SubnetMax":"10.5.199.0"}`), peers: map[netip.AddrPort]*net.UDPConn{}}
	a.target, a.stranger = a.Hosts[0], a.Hosts[1]
	// The kernel would say things of its own on a fresh device.
	a.must(a.target.Sysctl("net/ipv6/conf/default/disable_ipv6", "1"))
	const flannel, twill = "null", `{"Proto":1,"Node":"forger","NodeID":"0123456789abcdef","Port":8285}`
	a.lease("10.5.201.0-24", 201, flannel)
	a.lease("10.5.202.0-24", 202, flannel)
	a.lease("10.5.203.0-24", 202, flannel)
	a.lease("10.5.204.0-24", 204, twill)

	d := a.start(a.target)
	a.pod = a.attach(a.target)
	a.stop(d)
	// Replies to what arrives would be counted with what is forged later.
	a.must(a.pod.Exec(a.ctx, "iptables", "-w", "-A", "OUTPUT", "-j", "DROP"))
	a.must(a.target.Exec(a.ctx, "iptables", "-w", "-A", "OUTPUT", "-o", defaultTunName, "-j", "DROP"))
	// What the pod sends to the daemon's port is not what fromInside is about.
	a.must(a.target.Exec(a.ctx, "iptables", "-w", "-A", "INPUT", "-i", "docker0", "-p", "udp", "-j", "DROP"))
	a.rules.Own = a.subnetOf(a.target)
	a.rules.Host = a.hostAddresses()
	a.generator = forge.NewGenerator(seed, forge.Addresses{})
	a.must(a.openWires())
	return a
}

// lease puts a peer's lease at an address of the stranger.
func (a *assault) lease(key string, host int, data string) {
	endpoint := netip.AddrPortFrom(a.underlayAddr(host), 8285)
	a.put(defaultPrefix+"/subnets/"+key, fmt.Sprintf(`{"PublicIP":%q,"BackendType":"udp","BackendData":%s}`, endpoint.Addr(), data))
	a.rules.Leases = append(a.rules.Leases, forge.Lease{Subnet: a.prefixOf(key), Endpoint: endpoint, Twill: data != "null"})
	if a.peers[endpoint] != nil {
		return
	}
	a.must(a.stranger.AddAddress(endpoint.Addr()))
	a.must(a.stranger.Do(func() (err error) {
		a.peers[endpoint], err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(endpoint))
		return err
	}))
	a.t.Cleanup(func() { a.peers[endpoint].Close() })
}

func (a *assault) underlayAddr(host int) netip.Addr {
	b := a.Underlay().Addr().As4()
	b[3] = byte(host)
	return netip.AddrFrom4(b)
}

func (a *assault) prefixOf(key string) netip.Prefix {
	var b [4]byte
	var bits int
	_, err := fmt.Sscanf(key, "%d.%d.%d.%d-%d", &b[0], &b[1], &b[2], &b[3], &bits)
	a.must(err)
	return netip.PrefixFrom(netip.AddrFrom4(b), bits)
}

// addresses are all that mean something to the rules, and some that do not. Those
// that are likely to pass are named often: most packets shall fail for one reason,
// not for many.
func (a *assault) addresses(inbound bool) forge.Addresses {
	odd := []netip.Addr{
		a.target.Addr(), a.stranger.Addr(), a.Addr(), a.rules.Own.Addr(), a.target.Gateway().Addr(),
		lastAddr(a.rules.Own), lastAddr(a.rules.Leases[0].Subnet), lastAddr(a.rules.Leases[3].Subnet),
		netip.MustParseAddr("10.5.0.9"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1"),
		netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("255.255.255.255"),
	}
	ours, theirs := []netip.Addr{a.pod.Addr()}, []netip.Addr{}
	out := forge.Addresses{Underlay: []netip.AddrPort{netip.AddrPortFrom(a.target.Addr(), 8285)}}
	for _, l := range a.rules.Leases {
		if inbound || !l.Twill { // for nobody answers its probes: what the path takes is not sure
			theirs = append(theirs, l.Subnet.Addr().Next().Next())
		}
		odd = append(odd, l.Endpoint.Addr())
		out.Underlay = append(out.Underlay, l.Endpoint)
		out.Senders = append(out.Senders, l.Endpoint.Addr(), l.Endpoint.Addr())
	}
	out.Senders = append(out.Senders, a.stranger.Addr(), a.underlayAddr(240), a.target.Addr(), netip.MustParseAddr("127.0.0.1"))
	out.Sources, out.Destinations = append(out.Sources, odd...), append(out.Destinations, odd...)
	if inbound {
		ours, theirs = theirs, ours
	}
	for range 2 * len(odd) {
		out.Sources = append(out.Sources, ours...)
		out.Destinations = append(out.Destinations, theirs...)
	}
	out.Sources, out.Destinations = append(out.Sources, theirs...), append(out.Destinations, ours...)
	return out
}

// hostAddresses are those of the target, which its own packets may come from.
func (a *assault) hostAddresses() (all []netip.Addr) {
	addrs, err := a.target.Link().AddrList(nil, netlink.FAMILY_V4)
	a.must(err)
	for _, address := range addrs {
		if addr, _ := netip.AddrFromSlice(address.IP.To4()); !addr.IsLoopback() {
			all = append(all, addr)
		}
	}
	return all
}

func (a *assault) openWires() error {
	open := func(n *lab.Namespace, w **forge.Wire, opener func(string) (*forge.Wire, error)) error {
		return n.Do(func() (err error) {
			if *w, err = opener("eth0"); err == nil {
				a.t.Cleanup((*w).Close)
			}
			return err
		})
	}
	if err := open(a.stranger.Namespace, &a.underlay, forge.OpenSender); err != nil {
		return err
	}
	if err := open(a.pod, &a.podCard, forge.OpenSender); err != nil {
		return err
	}
	return open(a.pod, &a.inPod, forge.OpenRecorder)
}

// begin starts the daemon in one mode and waits until it knows its peers.
func (a *assault) begin(offload, check string) *lab.Process {
	a.t.Helper()
	a.rules.Check, a.rules.ToAll = check, check == "source" // one mode is enough for it
	args := []string{"--spoof-check", check, fmt.Sprintf("--directed-broadcast=%v", a.rules.ToAll)}
	if offload != "all" {
		args = append(args, "--offload", offload)
	}
	d := a.start(a.target, args...)
	a.t.Cleanup(d.Kill) // unless it was stopped
	a.waitPeers(a.target, len(a.rules.Leases))
	return d
}

// recorder records twill0, which each daemon may make anew.
func (a *assault) recorder() (w *forge.Wire) {
	a.t.Helper()
	a.must(a.target.Do(func() (err error) { w, err = forge.OpenRecorder(defaultTunName); return err }))
	a.t.Cleanup(w.Close)
	return w
}

// fromUnderlay sends datagrams to the daemon's port.
func (a *assault) fromUnderlay(total int) {
	a.t.Helper()
	a.generator.Addresses = a.addresses(true)
	target := netip.AddrPortFrom(a.target.Addr(), 8285)
	ethernet := forge.Ethernet{From: a.underlay.Address(), To: a.cardOf(a.target.Namespace, "eth0")}
	device, rx := a.recorder(), newAccount(a, func(s *api.Status) api.Counters { return s.Rx })
	peers := newPeerDrops(a)
	_, err := a.inPod.Record() // what came before
	a.must(err)
	var passed forge.Ledger
	pod := podLedger{rules: a.rules, pod: a.pod.Addr(), mtu: readEnv(a.t, a.target.EnvFile()).MTU}
	kinds := map[string]int{}
	for sent := 0; sent < total; {
		batch := a.generator.Datagrams(forgedBatch)
		for i := range batch {
			d := &batch[i]
			a.frames++
			for _, f := range d.Frames(target, ethernet, 1500, a.frames) {
				a.must(a.underlay.Send(f))
			}
			kinds[d.Kind]++
			if !d.Arrives() || d.From.Addr() == a.target.Addr() || d.From.Addr().IsLoopback() {
				continue // the kernel's own rules
			}
			fate := a.rules.Inbound(d.From.Addr(), d.TOS, d.Payload)
			if fate.Control {
				continue
			}
			rx.expect(fate)
			peers.expect(fate)
			if fate.Drop == "" {
				passed.Due(fate.Packet)
				pod.due(fate.Packet)
			}
		}
		sent += len(batch)
		rx.settle()
		a.waitFor("the peers' drops", peers.check)
		a.balance("what the daemon wrote", device, false, &passed)
		a.waitFor("the pod's packets", func() error { return pod.look(a.inPod) })
	}
	a.must(pod.nothingElse())
	a.t.Logf("from the underlay: %d datagrams %v, %s", total, kinds, rx)
}

// balance waits until a recorder has seen all that is due, and nothing else.
func (a *assault) balance(what string, w *forge.Wire, outgoing bool, l *forge.Ledger) {
	a.t.Helper()
	a.waitFor(what, func() error {
		frames, err := w.Record()
		if err != nil {
			return err
		}
		for _, f := range frames {
			if f.Outgoing != outgoing {
				continue
			}
			for _, p := range f.Packets {
				if outgoing || !a.ownVoice(p) {
					l.Saw(p)
				}
			}
		}
		return l.Balance()
	})
}

// ownVoice tells the daemon's own ICMP errors, which it writes to the device for
// packets that go out: nothing that is sent to it comes from its own address.
func (a *assault) ownVoice(p []byte) bool {
	src, _ := netip.AddrFromSlice(p[12:16])
	return src == a.rules.Own.Addr() && p[9] == 1 && p[1] == 6<<5
}

// cardOf is the hardware address of a link.
func (a *assault) cardOf(n *lab.Namespace, link string) net.HardwareAddr {
	a.t.Helper()
	var l netlink.Link
	l, err := n.Link().LinkByName(link)
	a.must(err)
	return l.Attrs().HardwareAddr
}

// account compares the daemon's counters of one direction with what they must be.
type account struct {
	*assault
	direction   func(*api.Status) api.Counters
	before, due api.Counters
}

func newAccount(a *assault, direction func(*api.Status) api.Counters) *account {
	a.t.Helper()
	r := &account{assault: a, direction: direction, due: api.Counters{Drops: map[string]uint64{}}}
	r.before = r.now()
	return r
}

func (r *account) now() api.Counters {
	r.t.Helper()
	var s api.Status
	r.must(api.Get(r.ctx, daemon.SocketPath(r.target.RunDir()), api.StatusPath, &s))
	return r.direction(&s)
}

// since is what the counters have gained.
func (r *account) since() api.Counters {
	now := r.now()
	now.Packets -= r.before.Packets
	now.Bytes -= r.before.Bytes
	for reason, n := range r.before.Drops {
		if now.Drops[reason] -= n; now.Drops[reason] == 0 {
			delete(now.Drops, reason)
		}
	}
	return now
}

func (r *account) expect(f forge.Fate) {
	if f.Drop != "" {
		r.due.Drops[f.Drop]++
		return
	}
	r.due.Packets++
	r.due.Bytes += uint64(len(f.Packet))
}

// settle waits until every packet is accounted for.
func (r *account) settle() {
	r.t.Helper()
	r.waitFor("the counters", r.check)
}

func (r *account) check() error {
	is := r.since()
	if is.Packets != r.due.Packets || is.Bytes != r.due.Bytes || !maps.Equal(is.Drops, r.due.Drops) {
		return fmt.Errorf("they are %+v, want %+v", is, r.due)
	}
	return nil
}

func (r *account) String() string {
	return fmt.Sprintf("%d passed, dropped %v", r.due.Packets, r.due.Drops)
}
