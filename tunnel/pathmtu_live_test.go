package tunnel

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A routedOverlay is two hosts with a router between them, behind which the path may be smaller than both hosts' links.
type routedOverlay struct {
	a, b   *overlayHost
	router *namespace
	peer   *Peer // b, as a knows it
}

// newRoutedOverlay makes the hosts; newPeer says what a takes b for.
func newRoutedOverlay(t *testing.T, newPeer func(netip.Prefix, netip.AddrPort) *Peer) *routedOverlay {
	t.Helper()
	o := &routedOverlay{
		a:      newOverlayHost(t, netip.MustParsePrefix("10.5.1.0/24"), netip.MustParseAddrPort("198.18.1.1:8285")),
		b:      newOverlayHost(t, netip.MustParsePrefix("10.5.2.0/24"), netip.MustParseAddrPort("198.18.2.1:8285")),
		router: newNamespace(t),
	}
	for name, h := range map[string]*overlayHost{"a": o.a, "b": o.b} {
		gateway := h.endpoint.Addr().Next()
		connect(t, h.namespace, "underlay", o.router, name)
		h.addAddr(t, "underlay", netip.PrefixFrom(h.endpoint.Addr(), 24))
		o.router.addAddr(t, name, netip.PrefixFrom(gateway, 24))
		if err := h.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()}); err != nil {
			t.Fatal(err)
		}
		h.offloads = AllOffloads
		h.probes = 200 * time.Millisecond
		h.connectPod(t)
		h.run(t, 1)
	}
	o.router.sysctl(t, "net/ipv4/ip_forward", "1")
	o.a.sysctl(t, "net/ipv4/route/mtu_expires", "3")
	o.peer = newPeer(o.b.subnet, o.b.endpoint)
	o.a.tunnel.SetTable(NewTable(o.a.subnet, []*Peer{o.peer}))
	o.b.tunnel.SetTable(NewTable(o.b.subnet, []*Peer{NewTwillPeer(o.a.subnet, o.a.endpoint)}))
	return o
}

// setMTU sets what the router takes towards b.
func (o *routedOverlay) setMTU(t *testing.T, mtu int) {
	t.Helper()
	link, err := o.router.LinkByName("b")
	if err == nil {
		err = o.router.LinkSetMTU(link, mtu)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// silence has the router drop what is too large without a word.
func (o *routedOverlay) silence(t *testing.T) {
	t.Helper()
	o.router.iptables(t, "-A", "OUTPUT", "-p", "icmp", "-j", "DROP")
}

// use keeps packets on their way from a's pod to b's until the end of the test, so that the path is in use.
func (o *routedOverlay) use(t *testing.T) {
	t.Helper()
	client, _ := udpPair(t, o.a, o.b)
	client.SetDeadline(time.Time{})
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				client.Write([]byte("x"))
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
}

// TCP goes on over a path that becomes smaller than the device's MTU, whether the router says so or not, and whether the peer can be
// asked or not. Where it says so the path is seen to grow back, too.
func TestPathBecomesSmaller(t *testing.T) {
	const mtu = 1300
	for _, tt := range []struct {
		name    string
		newPeer func(netip.Prefix, netip.AddrPort) *Peer
		silent  bool
	}{
		{"ICMP", NewTwillPeer, false},
		{"silence", NewTwillPeer, true},
		{"ICMP, Flannel peer", NewPeer, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newRoutedOverlay(t, tt.newPeer)
			checkTCP(t, o.a, o.b)
			o.use(t)
			if tt.silent {
				o.silence(t)
				waitFor(t, "the first reply", func() bool { return o.peer.Stats().Path.ProbesAnswered > 0 })
			}
			o.setMTU(t, mtu)
			checkTCP(t, o.a, o.b)
			limit := o.peer.Stats().Path.MTU
			if low := mtu - encapsulation - mtuPrecision; limit < low || limit > mtu-encapsulation {
				t.Errorf("path MTU %d, want %d to %d", limit, low, mtu-encapsulation)
			}
			checkFragments(t, o.a, o.b)

			if !tt.silent {
				o.setMTU(t, 1500)
				waitFor(t, "the path to grow", func() bool { return o.peer.Stats().Path.MTU == 0 })
				checkTCP(t, o.a, o.b)
			}
		})
	}
}

// checkFragments sends datagrams with and without DF over a path that takes less than the device's MTU.
func checkFragments(t *testing.T, from, to *overlayHost) {
	t.Helper()
	limit := from.tunnel.table.Load().Lookup(to.podAddr).Stats().Path.MTU
	if limit == 0 {
		t.Fatal("the path takes the device's MTU")
	}
	client, server := udpPair(t, from, to)
	raw, err := client.SyscallConn()
	if err == nil {
		err = control(raw, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{limit - 28, limit - 27, overlayMTU - 28, 4000} {
		if _, err := client.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if n, err := server.Read(make([]byte, 1<<16)); n != size || err != nil {
			t.Fatalf("received %d bytes without DF, %v; want %d", n, err, size)
		}
	}
	from.pod.do(t, func() error {
		got, err := provoke(to.podAddr, 64, overlayMTU-28)
		if want := (icmpError{3, 4, from.subnet.Addr()}); err == nil && got != want {
			err = fmt.Errorf("a datagram with DF was answered by %+v, want %+v", got, want)
		}
		return err
	})
}

// A smaller interface is seen at once: what it refuses is the reason to look.
func TestInterfaceBecomesSmaller(t *testing.T) {
	o := newRoutedOverlay(t, NewTwillPeer)
	checkTCP(t, o.a, o.b)
	link, err := o.a.LinkByName("underlay")
	if err == nil {
		err = o.a.LinkSetMTU(link, 1280)
	}
	if err != nil {
		t.Fatal(err)
	}
	checkTCP(t, o.a, o.b)
	if limit := o.peer.Stats().Path.MTU; limit != 1280-encapsulation {
		t.Errorf("path MTU %d, want %d", limit, 1280-encapsulation)
	}
	if err := o.a.LinkSetMTU(link, 1500); err != nil {
		t.Fatal(err)
	}
	o.use(t)
	waitFor(t, "the path to grow", func() bool { return o.peer.Stats().Path.MTU == 0 })
}

// Probes measure the way to a real peer, and its end.
func TestProbesOverUnderlay(t *testing.T) {
	o := newRoutedOverlay(t, NewTwillPeer)
	o.use(t)
	waitFor(t, "five replies", func() bool { return o.peer.Stats().Path.ProbesAnswered >= 5 })
	s := o.peer.Stats().Path
	if s.RTT <= 0 || s.RTT > time.Second || s.MinRTT > s.RTT+s.RTTVar || !s.Answers() {
		t.Errorf("round-trip times %+v", s)
	}
	link, err := o.router.LinkByName("b")
	if err == nil {
		err = o.router.LinkSetDown(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the peer to be out of reach", func() bool { s := o.peer.Stats().Path; return s.Unreachable() })
	if err := o.router.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the peer to be back", func() bool { s := o.peer.Stats().Path; return s.Answers() })
}
