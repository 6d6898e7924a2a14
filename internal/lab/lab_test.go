package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// testMTU is below the underlay's, as an overlay's is.
const testMTU = 1400

// within bounds a test that waits; the machine may be busy.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, errors.New("the test's deadline passed"))
	t.Cleanup(cancel)
	return ctx
}

func newLab(t *testing.T, hosts int) *Lab {
	t.Helper()
	l, err := New(Options{Hosts: hosts, Env: []string{standInEnv + "=1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// newRouted is a lab with a pod on each host and plain routes instead of an
// overlay.
func newRouted(t *testing.T, hosts int) (*Lab, []*Namespace) {
	t.Helper()
	l := newLab(t, hosts)
	var pods []*Namespace
	for i, h := range l.Hosts {
		if err := h.AddBridge(podSubnet(i+1), testMTU); err != nil {
			t.Fatal(err)
		}
		pod, err := h.AddPod()
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, pod)
		for j, peer := range l.Hosts {
			if i == j {
				continue
			}
			if err := h.AddRoute(podSubnet(j+1).Masked(), peer.Addr()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return l, pods
}

func podSubnet(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(i), 1}), 24)
}

func TestPodsReachEachOther(t *testing.T) {
	l, pods := newRouted(t, 3)
	ctx := within(t, 30*time.Second)
	all := append([]*Namespace{}, pods...)
	for _, h := range l.Hosts {
		all = append(all, h.Namespace)
	}
	rtt, err := PingAll(ctx, all, PingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		for j := range all {
			if (rtt[i][j] > 0) != (i != j) {
				t.Errorf("rtt from %s to %s is %v", all[i].Name, all[j].Name, rtt[i][j])
			}
		}
	}
	if err := Echo(ctx, pods[0], pods[2], 0, 1, testMTU-28, testMTU-27, 9000, MaxDatagram); err != nil {
		t.Error(err)
	}
	const bytes = 8<<20 + 3
	r, err := Transfer(ctx, pods[1], pods[0], bytes)
	if err != nil {
		t.Fatal(err)
	}
	if r.Bytes != bytes || r.BitsPerSecond() <= 0 {
		t.Errorf("transfer: got %+v", r)
	}
}

func TestPingOptions(t *testing.T) {
	l, pods := newRouted(t, 2)
	ctx := within(t, 30*time.Second)
	gateway := podSubnet(1).Addr()

	var icmpErr *ICMPError
	_, err := Ping(ctx, pods[0], pods[1].Addr(), PingOptions{TTL: 1})
	if !errors.As(err, &icmpErr) || icmpErr.Type != ipv4.ICMPTypeTimeExceeded || icmpErr.From != gateway {
		t.Errorf("ttl 1: got %v, want time exceeded from %s", err, gateway)
	}
	if _, err := Ping(ctx, pods[0], pods[1].Addr(), PingOptions{DontFragment: true, Size: testMTU - 28}); err != nil {
		t.Errorf("a packet of the MTU: %v", err)
	}
	if _, err := Ping(ctx, pods[0], pods[1].Addr(), PingOptions{DontFragment: true, Size: testMTU - 27}); err == nil {
		t.Error("a packet above the MTU with DF was answered")
	}
	if _, err := Ping(ctx, pods[0], pods[1].Addr(), PingOptions{Size: 4000}); err != nil {
		t.Errorf("a fragmented packet: %v", err)
	}

	// The pods' own MTU is below the underlay's until the latter shrinks.
	if err := l.SetUnderlayMTU(1300); err != nil {
		t.Fatal(err)
	}
	_, err = Ping(ctx, pods[0], pods[1].Addr(), PingOptions{DontFragment: true, Size: testMTU - 28})
	if !errors.As(err, &icmpErr) || icmpErr.Code != 4 || icmpErr.MTU != 1300 {
		t.Errorf("above the path's MTU: got %v, want fragmentation needed with next-hop MTU 1300", err)
	}

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Ping(cancelled, pods[0], netip.MustParseAddr("198.18.0.200"), PingOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestStreamCountsWhatIsMissing(t *testing.T) {
	l, pods := newRouted(t, 2)
	ctx := within(t, 30*time.Second)
	s, err := StartStream(ctx, pods[0], pods[1], StreamOptions{Rate: 1000})
	if err != nil {
		t.Fatal(err)
	}
	arrived := func(n int) func() error {
		return func() error {
			if r := s.Report(); r.Received < n {
				return errors.New("too few packets")
			}
			return nil
		}
	}
	if err := WaitFor(ctx, "100 packets", arrived(100)); err != nil {
		t.Fatal(err)
	}
	if err := l.Hosts[1].SetCable(false); err != nil {
		t.Fatal(err)
	}
	before := s.Report()
	if err := WaitFor(ctx, "100 packets into the void", func() error {
		if s.Report().Sent < before.Sent+100 {
			return errors.New("too few packets")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.Hosts[1].SetCable(true); err != nil {
		t.Fatal(err)
	}
	if err := WaitFor(ctx, "packets again", arrived(s.Report().Received+100)); err != nil {
		t.Fatal(err)
	}
	r := s.Stop()
	if r.Lost() < 90 || r.Lost() > r.Sent-200 || r.LongestGap < 50*time.Millisecond || r.Duplicated+r.Reordered != 0 {
		t.Errorf("got %+v with %d lost, want some 100 lost in one gap and nothing else", r, r.Lost())
	}
}

// A pod can be reached once it is there: a bridge throws away what is for a port that
// has not come up, and an ARP request is sent again after a second.
func TestPodIsReachedAtOnce(t *testing.T) {
	l, _ := newRouted(t, 1)
	h := l.Hosts[0]
	for range 5 {
		if _, err := h.AddPod(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{podPort(len(h.Pods)), bridge} {
			l, err := h.find(name)
			if err != nil {
				t.Fatal(err)
			}
			if state := l.Attrs().OperState; state != netlink.OperUp {
				t.Errorf("%s is %v, want up", name, state)
			}
		}
	}
}

// What waits for a link waits until the other end of the cable is there.
func TestLinkComesUp(t *testing.T) {
	l, pods := newRouted(t, 1)
	h, pod := l.Hosts[0], pods[0]
	end, err := pod.find(uplink)
	if err != nil {
		t.Fatal(err)
	}
	if err := pod.link.LinkSetDown(end); err != nil {
		t.Fatal(err)
	}
	set := make(chan struct{})
	time.AfterFunc(10*pollInterval, func() {
		close(set)
		if err := pod.setUp(uplink); err != nil {
			t.Error(err)
		}
	})
	if err := h.waitUp(podPort(1), bridge); err != nil {
		t.Fatal(err)
	}
	select {
	case <-set:
	default:
		t.Error("the port counts as up while its cable's other end is down")
	}
}

// A stream whose process stood still does not send all that it owes at once, which
// would overrun buffers on the way.
func TestStreamAfterPause(t *testing.T) {
	const rate, owed = 1000, 500
	_, pods := newRouted(t, 2)
	ctx := within(t, 30*time.Second)
	s, err := StartStream(ctx, pods[0], pods[1], StreamOptions{Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock() // neither end gets on without it
	time.Sleep(2 * owed * time.Second / rate)
	before, resumed := s.report.Sent, time.Now()
	s.mu.Unlock()
	if err := WaitFor(ctx, "half of what is owed", func() error {
		if sent := s.Report().Sent - before; sent < owed {
			return fmt.Errorf("%d packets sent", sent)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if took, least := time.Since(resumed), owed*time.Second/rate/catchUp; took < least*9/10 {
		t.Errorf("sent %d packets in %s, want at most %d times the rate", owed, took, catchUp)
	}
	if r := s.Stop(); r.Lost() != 0 {
		t.Errorf("got %+v, want no packet lost", r)
	}
}

// A receiver's buffer is as large as asked where this process may have it so.
func TestStreamBuffer(t *testing.T) {
	_, pods := newRouted(t, 2)
	s, err := StartStream(within(t, 30*time.Second), pods[0], pods[1], StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	raw, err := s.receiver.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	var forced error
	if err := raw.Control(func(fd uintptr) {
		got, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, streamBuffer)
	}); err != nil {
		t.Fatal(err)
	}
	if forced == nil && got < streamBuffer {
		t.Errorf("a buffer of %d bytes, want %d", got, streamBuffer)
	}
}

// The counting itself, on arrivals that the lab's network does not produce.
func TestStreamCountsOrder(t *testing.T) {
	s := &Stream{report: StreamReport{Sent: 6}}
	for _, seq := range []uint64{0, 2, 1, 1, 5, 6, 9} {
		s.arrived(seq)
	}
	r := s.Report()
	if r.Received != 4 || r.Lost() != 2 || r.Reordered != 1 || r.Duplicated != 1 {
		t.Errorf("got %+v with %d lost, want 4 received, 2 lost, 1 reordered, 1 duplicated", r, r.Lost())
	}
}

func TestUnderlayChanges(t *testing.T) {
	l, _ := newRouted(t, 2)
	ctx := within(t, 30*time.Second)
	mover, other := l.Hosts[0], l.Hosts[1]
	old := mover.Addr()
	try := func(a netip.Addr) error {
		_, err := Ping(within(t, 300*time.Millisecond), other.Namespace, a, PingOptions{})
		return err
	}
	// More than one try: a neighbour that was away is not asked for at once.
	reach := func(a netip.Addr) error {
		return WaitFor(ctx, "an answer", func() error { return try(a) })
	}
	silent := func(a netip.Addr) bool { return try(a) != nil }

	if err := mover.AddAddress(nth(l.Underlay(), 222)); err != nil {
		t.Fatal(err)
	}
	if err := reach(nth(l.Underlay(), 222)); err != nil {
		t.Errorf("second address: %v", err)
	}
	if err := mover.SetAddress(mover.SpareAddr()); err != nil {
		t.Fatal(err)
	}
	if err := reach(mover.Addr()); err != nil {
		t.Errorf("moved: %v", err)
	}
	if mover.Addr() == old || !silent(old) {
		t.Errorf("the old address %s still answers", old)
	}
	if err := mover.SetUplink(false); err != nil {
		t.Fatal(err)
	}
	if !silent(mover.Addr()) {
		t.Error("a host with its uplink down answers")
	}
	if err := mover.SetUplink(true); err != nil {
		t.Fatal(err)
	}
	if err := reach(mover.Addr()); err != nil {
		t.Errorf("uplink up again: %v", err)
	}
	if err := mover.DeleteDefaultRoute(); err != nil {
		t.Fatal(err)
	}
	if err := mover.Do(func() error {
		_, err := net.Dial("udp4", "192.0.2.1:9")
		return err
	}); err == nil {
		t.Error("a host without a default route has one")
	}
}

func TestProcess(t *testing.T) {
	l := newLab(t, 1)
	h := l.Hosts[0]
	ctx := within(t, 30*time.Second)

	p, err := h.StartDaemon("--more")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if p.Status() != "well" || p.ExitCode() != -1 {
		t.Errorf("running: status %q, exit code %d", p.Status(), p.ExitCode())
	}
	code, err := p.Stop(ctx)
	if code != 0 || err != nil {
		t.Errorf("stop: %d, %v", code, err)
	}
	select {
	case <-p.Stopping():
	default:
		t.Error("STOPPING=1 was not seen")
	}
	if want := "stand-in starts\nstand-in ends"; p.Log() != want {
		t.Errorf("log %q, want %q", p.Log(), want)
	}

	p, err = h.Start("fail")
	if err != nil {
		t.Fatal(err)
	}
	err = p.Ready(ctx)
	if err == nil || !strings.Contains(err.Error(), "exit code 3") || !strings.Contains(err.Error(), "nothing works") {
		t.Errorf("a daemon that fails: got %v", err)
	}

	p, err = h.Start("stubborn")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	quick, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if code, err := p.Stop(quick); code != 128+9 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stop of a stubborn one: %d, %v", code, err)
	}

	t.Setenv("TWILL_MTU", "1") // the user's own settings stay outside
	t.Setenv("FLANNELD_IFACE", "nonsense")
	if out, err := h.Twill(ctx, "environ"); err != nil || strings.Contains(out, "MTU") || strings.Contains(out, "FLANNELD") {
		t.Errorf("environment: %q, %v", out, err)
	}
	out, err := h.Twill(ctx, "print", "a", "b")
	if err != nil || out != "stand-in starts\n[a b]\n" {
		t.Errorf("print: %q, %v", out, err)
	}
	if _, err := h.Twill(ctx, "fail"); err == nil || !strings.Contains(err.Error(), "nothing works") {
		t.Errorf("a command that fails: got %v", err)
	}
}

func TestOutputIsCopiedByLines(t *testing.T) {
	var got strings.Builder
	o := newOutput("host1", &got)
	for _, s := range []string{"a", "b\nc\n\n", "d"} {
		if _, err := o.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	o.flush()
	if want := "host1| ab\nhost1| c\nhost1| \nhost1| d\n"; got.String() != want {
		t.Errorf("copied %q, want %q", got.String(), want)
	}
	if got, want := o.tail(2), "\nd"; got != want {
		t.Errorf("tail %q, want %q", got, want)
	}
}

func TestEtcdKeepsDataAndAddress(t *testing.T) {
	l := newLab(t, 1)
	ctx := within(t, 30*time.Second)
	if err := l.StartEtcd(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{l.EtcdEndpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	// A host reaches it too.
	if err := l.Hosts[0].Do(func() error {
		conn, err := net.Dial("tcp4", strings.TrimPrefix(l.EtcdEndpoint(), "http://"))
		if err == nil {
			conn.Close()
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	for _, wipe := range []bool{false, true} {
		l.StopEtcd()
		want := int64(1)
		if wipe {
			want = 0
			if err := l.WipeEtcd(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.StartEtcd(ctx); err != nil {
			t.Fatal(err)
		}
		got, err := c.Get(ctx, "k")
		if err != nil {
			t.Fatal(err)
		}
		if got.Count != want {
			t.Errorf("after a restart with wipe=%t: %d values, want %d", wipe, got.Count, want)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := linkNames(t)
	l, _ := newRouted(t, 2)
	p, err := l.Hosts[0].Start("run")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	dir := l.dir
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if p.ExitCode() == -1 {
		t.Error("a process still runs")
	}
	if after := linkNames(t); after != before {
		t.Errorf("links before: %s; after: %s", before, after)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v, want it gone", dir, err)
	}
}

func linkNames(t *testing.T) string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return strings.Join(names, " ")
}

func TestLabsSideBySide(t *testing.T) {
	a, b := newLab(t, 1), newLab(t, 1)
	if a.Underlay() == b.Underlay() {
		t.Fatalf("two labs have the underlay %s", a.Underlay())
	}
	for _, l := range []*Lab{a, b} {
		if _, err := Ping(within(t, 10*time.Second), l.Hosts[0].Namespace, l.Addr(), PingOptions{}); err != nil {
			t.Error(err)
		}
	}
}

func TestNewRefusesHostCounts(t *testing.T) {
	for _, n := range []int{-1, 0, MaxHosts + 1} {
		if _, err := New(Options{Hosts: n}); err == nil || !strings.Contains(err.Error(), "1 to 99") {
			t.Errorf("%d hosts: got %v", n, err)
		}
	}
}
