package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An overlayHost is a host of the overlay: a namespace with an underlay interface, a TUN device and a running tunnel, and a
// second namespace for the pod behind it.
type overlayHost struct {
	*namespace
	pod      *namespace
	podAddr  netip.Addr
	subnet   netip.Prefix
	endpoint netip.AddrPort
	offloads Offloads
	probes   time.Duration // interval; 0: none
	tunnel   *Tunnel
	stop     context.CancelFunc
	ended    chan error
}

const overlayMTU = 1472 // that of the underlay less 28, the outer IP and UDP headers

// newOverlay returns two hosts that are each other's peer, with queues queues each and all offloads.
func newOverlay(t *testing.T, queues int) (a, b *overlayHost) {
	t.Helper()
	return newMixedOverlay(t, queues, AllOffloads, AllOffloads)
}

// newMixedOverlay is newOverlay with other offloads for each host.
func newMixedOverlay(t *testing.T, queues int, offloadsA, offloadsB Offloads) (a, b *overlayHost) {
	t.Helper()
	a, b = newOverlayHosts(t)
	a.offloads, b.offloads = offloadsA, offloadsB
	connect(t, a.namespace, "underlay", b.namespace, "underlay")
	runOverlay(t, queues, a, b)
	return a, b
}

// newOverlayHosts returns two hosts whose underlay is still to be connected, with all offloads.
func newOverlayHosts(t *testing.T) (a, b *overlayHost) {
	t.Helper()
	a = newOverlayHost(t, netip.MustParsePrefix("10.5.1.0/24"), netip.MustParseAddrPort("198.18.0.1:8285"))
	b = newOverlayHost(t, netip.MustParsePrefix("10.5.2.0/24"), netip.MustParseAddrPort("198.18.0.2:8285"))
	a.offloads, b.offloads = AllOffloads, AllOffloads
	return a, b
}

// runOverlay makes two hosts each other's peer.
func runOverlay(t *testing.T, queues int, a, b *overlayHost) {
	t.Helper()
	for _, h := range []*overlayHost{a, b} {
		h.addAddr(t, "underlay", netip.PrefixFrom(h.endpoint.Addr(), 24))
		h.connectPod(t)
		h.run(t, queues)
	}
	a.tunnel.SetTable(NewTable(a.subnet, []*Peer{NewTwillPeer(b.subnet, b.endpoint)}))
	b.tunnel.SetTable(NewTable(b.subnet, []*Peer{NewPeer(a.subnet, a.endpoint)}))
}

func newOverlayHost(t *testing.T, subnet netip.Prefix, endpoint netip.AddrPort) *overlayHost {
	t.Helper()
	podAddr := netip.AddrFrom4([4]byte(append(subnet.Addr().AsSlice()[:3], 10)))
	return &overlayHost{namespace: newNamespace(t), pod: newNamespace(t), podAddr: podAddr, subnet: subnet, endpoint: endpoint}
}

// connectPod joins the pod to its host, which routes for it.
func (h *overlayHost) connectPod(t *testing.T) {
	t.Helper()
	gateway := h.podAddr.Prev()
	connect(t, h.namespace, "pod", h.pod, "eth0")
	h.addAddr(t, "pod", netip.PrefixFrom(gateway, 24))
	h.pod.addAddr(t, "eth0", netip.PrefixFrom(h.podAddr, 24))
	link, err := h.pod.LinkByName("eth0")
	if err == nil {
		err = errors.Join(h.pod.LinkSetMTU(link, overlayMTU), h.pod.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()}))
	}
	if err != nil {
		t.Fatal(err)
	}
	h.sysctl(t, "net/ipv4/ip_forward", "1")
}

// run opens the device and the sockets and runs the tunnel until the end of the test.
func (h *overlayHost) run(t *testing.T, queues int) {
	t.Helper()
	var device Device
	var conns []Conn
	h.do(t, func() (err error) {
		if device, err = Open(OpenConfig{Name: "twill0", Queues: queues, Offloads: h.offloads}); err != nil {
			return err
		}
		if conns, err = (ListenConfig{Address: h.endpoint, Sockets: queues, Offloads: h.offloads}).Listen(); err != nil {
			return err
		}
		return configureTUN(h.Handle, "twill0", h.subnet.Addr(), overlayMTU)
	})
	// Without it the host takes no packet from its own address, as which our ICMP errors come out of the device.
	h.sysctl(t, "net/ipv4/conf/twill0/accept_local", "1")

	var err error
	if h.tunnel, err = New(Config{
		Device:        device,
		Conns:         conns,
		Address:       h.subnet.Addr(),
		MTU:           overlayMTU,
		ProbeInterval: h.probes,
	}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.ended = stop, make(chan error, 1)
	go func() { h.ended <- h.tunnel.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := h.end(t); err != nil {
			t.Errorf("tunnel of %s: %v", h.endpoint, err)
		}
		for _, c := range conns {
			c.Close()
		}
		device.Close()
	})
}

// end waits for the end of Run and returns its error, only the first time.
func (h *overlayHost) end(t *testing.T) error {
	t.Helper()
	select {
	case err, first := <-h.ended:
		if first {
			close(h.ended)
		}
		return err
	case <-time.After(10 * time.Second):
		t.Fatalf("the tunnel of %s still runs after 10 s", h.endpoint)
		return nil
	}
}

func (n *namespace) addAddr(t *testing.T, name string, prefix netip.Prefix) {
	t.Helper()
	link, err := n.LinkByName(name)
	if err == nil {
		err = errors.Join(n.AddrAdd(link, &netlink.Addr{IPNet: ipNet(prefix)}), n.LinkSetUp(link))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (n *namespace) sysctl(t *testing.T, path, value string) {
	t.Helper()
	n.do(t, func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0) })
}

// connect joins two namespaces with a veth pair.
func connect(t *testing.T, a *namespace, nameA string, b *namespace, nameB string) {
	t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.ns)}
	if err := a.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
}

func TestOverlay(t *testing.T) {
	for _, tt := range []struct {
		queues int
		a, b   Offloads
	}{
		{1, AllOffloads, AllOffloads},
		{2, AllOffloads, AllOffloads},
		{1, Offloads{}, Offloads{}},
		{2, Offloads{}, Offloads{}},
		{1, AllOffloads, Offloads{}},
		{1, Offloads{TSO: true}, Offloads{USO: true}},
		{1, Offloads{UDPSegment: true}, Offloads{UDPGRO: true}},
	} {
		t.Run(fmt.Sprintf("%d queues, %v and %v", tt.queues, tt.a, tt.b), func(t *testing.T) {
			a, b := newMixedOverlay(t, tt.queues, tt.a, tt.b)
			t.Run("UDP", func(t *testing.T) { checkUDP(t, a, b) })
			t.Run("UDP reverse", func(t *testing.T) { checkUDP(t, b, a) })
			t.Run("ICMP errors", func(t *testing.T) { checkICMP(t, a, b) })
			// Before TCP, which fills the sockets' buffers until something is lost.
			t.Run("counters", func(t *testing.T) { checkCounters(t, a, b) })
			t.Run("TCP", func(t *testing.T) { checkTCP(t, a, b) })
			t.Run("TCP reverse", func(t *testing.T) { checkTCP(t, b, a) })
			t.Run("stop", func(t *testing.T) { checkStop(t, a, b) })
		})
	}
}

// checkTCP sends some megabytes from the pod of one host to that of another.
func checkTCP(t *testing.T, from, to *overlayHost) {
	data := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)

	var listener net.Listener
	to.pod.do(t, func() (err error) {
		listener, err = net.Listen("tcp4", to.podAddr.String()+":0")
		return err
	})
	defer listener.Close()
	received := make(chan []byte, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			received <- []byte(err.Error())
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		got, _ := io.ReadAll(conn)
		received <- got
	}()
	from.pod.do(t, func() error {
		conn, err := net.DialTimeout("tcp4", listener.Addr().String(), 10*time.Second)
		if err != nil {
			listener.Close()
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = conn.Write(data)
		return err
	})
	if got := <-received; !bytes.Equal(got, data) {
		t.Errorf("received %d bytes, not the %d that were sent", len(got), len(data))
	}
}

// checkUDP sends datagrams of sizes about the MTU, and larger ones, which the pod fragments.
func checkUDP(t *testing.T, from, to *overlayHost) {
	client, server := udpPair(t, from, to)
	const fits = overlayMTU - 28
	for _, size := range []int{0, 1, 100, fits - 1, fits, fits + 1, 4000, 20000} {
		want := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := client.Write(want); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		got := make([]byte, 1<<16)
		n, err := server.Read(got)
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Fatalf("%d bytes: received %d, %v", size, n, err)
		}
	}
}

// udpPair returns a socket in the pod of one host, connected to one in the pod of another.
func udpPair(t *testing.T, from, to *overlayHost) (client, server *net.UDPConn) {
	t.Helper()
	to.pod.do(t, func() (err error) {
		server, err = net.ListenUDP("udp4", &net.UDPAddr{IP: to.podAddr.AsSlice()})
		return err
	})
	t.Cleanup(func() { server.Close() })
	from.pod.do(t, func() (err error) {
		client, err = net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
		return err
	})
	t.Cleanup(func() { client.Close() })
	deadline := time.Now().Add(10 * time.Second)
	client.SetDeadline(deadline)
	server.SetDeadline(deadline)
	return client, server
}

// checkICMP sends packets from a pod, and from the host itself, that the tunnel answers with ICMP errors.
func checkICMP(t *testing.T, a, b *overlayHost) {
	for _, tt := range []struct {
		name string
		from *namespace
		to   netip.Addr
		ttl  int
		want icmpError
	}{
		{"net unreachable", a.pod, nobodysPod, 64, icmpError{3, 0, a.subnet.Addr()}},
		{"time exceeded", a.pod, b.podAddr, 2, icmpError{11, 0, a.subnet.Addr()}}, // the host's own routing takes one hop
		{"net unreachable to the host", a.namespace, nobodysPod, 64, icmpError{3, 0, a.subnet.Addr()}},
		{"time exceeded to the host", a.namespace, b.podAddr, 1, icmpError{11, 0, a.subnet.Addr()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.from.do(t, func() error {
				got, err := provoke(tt.to, tt.ttl, 1)
				if err == nil && got != tt.want {
					err = fmt.Errorf("got %+v, want %+v", got, tt.want)
				}
				return err
			})
		})
	}
}

// icmpError is an ICMP error as a socket sees it.
type icmpError struct {
	typ, code byte
	from      netip.Addr
}

// provoke sends a datagram of size bytes with DF and returns the ICMP error that comes back.
func provoke(to netip.Addr, ttl, size int) (icmpError, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return icmpError{}, err
	}
	defer unix.Close(fd)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE),
		unix.Sendto(fd, make([]byte, size), 0, &unix.SockaddrInet4{Addr: to.As4(), Port: 33434}),
	)
	if err != nil {
		return icmpError{}, err
	}
	poll := []unix.PollFd{{Fd: int32(fd)}} // POLLERR is always reported
	for {
		n, err := unix.Poll(poll, 5000)
		if n == 1 {
			break
		}
		if err != unix.EINTR {
			return icmpError{}, fmt.Errorf("no ICMP error within 5 s (poll: %d, %v)", n, err)
		}
	}
	oob := make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 64), oob, unix.MSG_ERRQUEUE)
	if err != nil {
		return icmpError{}, err
	}
	return parseRecvErr(oob[:n])
}

// parseRecvErr finds the struct sock_extended_err of ip(7), and the sockaddr_in behind it, in control messages.
func parseRecvErr(oob []byte) (icmpError, error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return icmpError{}, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR && len(m.Data) >= 24 && m.Data[4] == unix.SO_EE_ORIGIN_ICMP {
			return icmpError{typ: m.Data[5], code: m.Data[6], from: netip.AddrFrom4([4]byte(m.Data[20:]))}, nil
		}
	}
	return icmpError{}, fmt.Errorf("no ICMP error among %d control messages", len(messages))
}

// checkCounters compares what one host sent with what the other received.
func checkCounters(t *testing.T, a, b *overlayHost) {
	t.Helper()
	for _, pair := range [][2]*overlayHost{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]
		waitFor(t, "the counters to agree", func() bool {
			tx, rx := from.tunnel.Stats().Tx, to.tunnel.Stats().Rx
			return tx.Packets == rx.Packets && tx.Bytes == rx.Bytes && tx.Packets > 0
		})
		peer := from.tunnel.table.Load().Lookup(to.podAddr)
		tx, stats := from.tunnel.Stats().Tx, peer.Stats()
		if stats.TxPackets != tx.Packets || stats.TxBytes != tx.Bytes {
			t.Errorf("the only peer has %d packets and %d bytes, the tunnel %d and %d", stats.TxPackets, stats.TxBytes, tx.Packets, tx.Bytes)
		}
		if since := time.Since(stats.LastSeen); since < 0 || since > time.Minute {
			t.Errorf("the peer was last seen %v ago", since)
		}
		if rx := to.tunnel.Stats().Rx; rx.Dropped() != 0 {
			t.Errorf("inbound drops %v, want none", rx.Drops)
		}
	}
}

// checkStop cancels the tunnel of a while b's pod floods it.
func checkStop(t *testing.T, a, b *overlayHost) {
	client, _ := udpPair(t, b, a)
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		packet := make([]byte, 1000)
		for {
			if _, err := client.Write(packet); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	}()
	before := a.tunnel.Stats().Rx.Packets
	waitFor(t, "the flood to arrive", func() bool { return a.tunnel.Stats().Rx.Packets > before+1000 })

	start := time.Now()
	a.stop()
	err := a.end(t)
	took := time.Since(start)
	client.Close()
	<-flooded
	if err != nil {
		t.Errorf("Run returned %v after cancel, want nil", err)
	}
	if took > 200*time.Millisecond {
		t.Errorf("Run took %v to end under load, want milliseconds", took)
	}
}

// What comes from hosts without a lease, or for another's, does not reach the pod.
func TestOverlayRefusesForgedPackets(t *testing.T) {
	a, b := newOverlay(t, 1)
	stranger := netip.MustParseAddrPort("198.18.0.66:8285")
	b.addAddr(t, "underlay", netip.PrefixFrom(stranger.Addr(), 24))

	var server *net.UDPConn
	a.pod.do(t, func() (err error) {
		server, err = net.ListenUDP("udp4", &net.UDPAddr{IP: a.podAddr.AsSlice(), Port: 5001}) // the port of udpPacket
		return err
	})
	defer server.Close()
	packet := func(src netip.Addr, mark byte) []byte {
		p := append(udpPacket(src, a.podAddr, 0), mark)
		binary.BigEndian.PutUint16(p[24:], 9)
		setTotalLength(p)
		return p
	}
	send := func(from netip.AddrPort, packet []byte) {
		t.Helper()
		b.do(t, func() error {
			// Not the port 8285 of the tunnel of b: the check is by address.
			conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: from.Addr().AsSlice()}, net.UDPAddrFromAddrPort(a.endpoint))
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write(packet)
			return err
		})
	}
	send(stranger, packet(b.podAddr, 1))
	send(b.endpoint, packet(nobodysPod, 2))
	send(b.endpoint, packet(a.podAddr, 3))
	send(b.endpoint, packet(b.podAddr, 4))

	server.SetDeadline(time.Now().Add(10 * time.Second))
	var got [2]byte
	n, addr, err := server.ReadFromUDPAddrPort(got[:])
	if err != nil || n != 1 || got[0] != 4 || addr.Addr() != b.podAddr {
		t.Errorf("the pod received %d bytes %x from %s, %v; want packet 4 alone", n, got, addr, err)
	}
	waitFor(t, "the counters", func() bool { return a.tunnel.Stats().Rx.Packets == 1 })
	rx := a.tunnel.Stats().Rx
	if rx.Drops[DropUnknownEndpoint] != 1 || rx.Drops[DropSpoofedSource] != 2 {
		t.Errorf("dropped %v, want 1 of an unknown endpoint, 2 spoofed", rx.Drops)
	}
}

// A packet larger than the underlay takes is refused by the kernel, not fragmented, and those after it go on.
func TestOverlayTooBigForTheUnderlay(t *testing.T) {
	a, b := newOverlay(t, 1)
	link, err := a.LinkByName("twill0")
	if err == nil {
		err = a.LinkSetMTU(link, overlayMTU+1)
	}
	if err != nil {
		t.Fatal(err)
	}
	var server, client *net.UDPConn
	b.pod.do(t, func() (err error) {
		server, err = net.ListenUDP("udp4", &net.UDPAddr{IP: b.podAddr.AsSlice()})
		return err
	})
	defer server.Close()
	a.do(t, func() (err error) { // the host's own link to the pod is not in the way
		client, err = net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
		return err
	})
	defer client.Close()
	for _, size := range []int{overlayMTU - 28, overlayMTU - 27, 10} {
		if _, err := client.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	server.SetDeadline(time.Now().Add(10 * time.Second))
	for _, want := range []int{overlayMTU - 28, 10} {
		if n, err := server.Read(make([]byte, 1<<16)); n != want || err != nil {
			t.Errorf("received %d bytes, %v; want %d", n, err, want)
		}
	}
	waitFor(t, "the counters", func() bool { return a.tunnel.Stats().Tx.Packets == 2 })
	if drops := a.tunnel.Stats().Tx.Drops; drops[DropSendTooBig] != 1 {
		t.Errorf("dropped %v, want 1 too big", drops)
	}
}

func TestOverlayDeviceDeleted(t *testing.T) {
	a, _ := newOverlay(t, 2)
	link, err := a.LinkByName("twill0")
	if err == nil {
		err = a.LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = a.end(t)
	if err == nil || !strings.Contains(err.Error(), "the TUN device was deleted") {
		t.Errorf("Run returned %v, want an error that says that the device was deleted", err)
	}
}
