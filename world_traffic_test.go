//go:build attack

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"twill/internal/api"
	"twill/internal/lab"
)

const (
	encapsulation = 20 + 8 // outer IPv4 and UDP
	ipUDP         = 20 + 8
	ipICMP        = 20 + 8
)

func TestWorldMTUs(t *testing.T) {
	for _, underlay := range []int{576 + encapsulation, 1280, 9000, 65535} {
		t.Run(fmt.Sprint(underlay), func(t *testing.T) {
			c := newCluster(t, 2, network(testNetwork))
			c.must(c.SetUnderlayMTU(underlay))
			c.startAll()
			mtu := underlay - encapsulation
			if got := readEnv(t, c.Hosts[0].EnvFile()).MTU; got != mtu {
				t.Fatalf("subnet.env says MTU %d, want %d", got, mtu)
			}
			pods := c.pods()
			for i := range pods {
				from, to := pods[i], pods[1-i]
				_, err := lab.Ping(c.ctx, from, to.Addr(), lab.PingOptions{Size: mtu - ipICMP, DontFragment: true})
				c.must(err)
				c.must(lab.Echo(c.ctx, from, to, 0, 1, mtu-ipUDP, min(mtu-ipUDP+1, lab.MaxDatagram), min(20000, lab.MaxDatagram)))
				_, err = lab.Transfer(c.ctx, from, to, 8<<20)
				c.must(err)
			}
		})
	}
}

// Several pods on each host, many flows at once, in both directions.
func TestWorldParallelStreams(t *testing.T) {
	c := newCluster(t, 3, network(testNetwork))
	c.startAll("--queues", "3")
	var pods []*lab.Namespace
	for _, h := range c.Hosts {
		second, err := h.AddPod()
		c.must(err)
		pods = append(pods, h.Pods[0], second)
	}
	var flows errgroup.Group
	for i, from := range pods {
		for j, to := range pods {
			if i/2 != j/2 { // not on the same host
				flows.Go(func() error { _, err := lab.Transfer(c.ctx, from, to, 4<<20); return err })
				flows.Go(func() error { return lab.Echo(c.ctx, from, to, 10, 1000, 5000) })
			}
		}
	}
	c.must(flows.Wait())
}

// Both ends count the same packets and bytes, and as many as were sent.
func TestWorldExactCounters(t *testing.T) {
	for _, offload := range []string{"tso,uso,udp-segment,udp-gro", "off"} {
		c := newCluster(t, 2, network(testNetwork))
		args := []string{}
		if offload == "off" {
			args = append(args, "--offload", "off")
		}
		c.startAll(args...)
		peer := func(i int) api.Peer {
			peers, err := c.peers(c.Hosts[i])
			c.must(err)
			return peers[0]
		}
		for _, size := range []int{8, 100, 1444} {
			tx, rx := peer(0), peer(1)
			stream, err := lab.StartStream(c.ctx, c.pods()[0], c.pods()[1], lab.StreamOptions{Rate: 5000, Size: size})
			c.must(err)
			c.waitFor("a thousand packets", func() error {
				if r := stream.Report(); r.Received < 1000 {
					return fmt.Errorf("%d received", r.Received)
				}
				return nil
			})
			r := stream.Stop()
			if r.Lost() != 0 || r.Duplicated != 0 || r.Reordered != 0 {
				t.Errorf("offload %s, %d bytes: lost %d, duplicated %d, reordered %d of %d", offload, size, r.Lost(), r.Duplicated, r.Reordered, r.Sent)
			}
			packets, bytes := uint64(r.Sent), uint64(r.Sent*(size+ipUDP))
			now := peer(0)
			if p, b := now.TxPackets-tx.TxPackets, now.TxBytes-tx.TxBytes; p != packets || b != bytes {
				t.Errorf("offload %s, %d bytes: the sender counts %d packets, %d bytes; sent were %d, %d", offload, size, p, b, packets, bytes)
			}
			now = peer(1)
			if p, b := now.RxPackets-rx.RxPackets, now.RxBytes-rx.RxBytes; p != packets || b != bytes {
				t.Errorf("offload %s, %d bytes: the receiver counts %d packets, %d bytes; sent were %d, %d", offload, size, p, b, packets, bytes)
			}
		}
	}
}

// A packet to the broadcast address of another host's subnet reaches all pods there
// if both daemons were asked for it and the other kernel forwards it; multicast and
// the limited broadcast reach nobody.
func TestWorldDirectedBroadcast(t *testing.T) {
	for _, asked := range []bool{false, true} {
		c := newCluster(t, 2, network(testNetwork))
		c.startAll(fmt.Sprintf("--directed-broadcast=%v", asked))
		here, there := c.Hosts[0], c.Hosts[1]
		second, err := there.AddPod()
		c.must(err)
		for _, device := range []string{"all", defaultTunName} {
			c.must(there.Sysctl("net/ipv4/conf/"+device+"/bc_forwarding", "1"))
		}
		sender := c.pods()[0]
		to := netip.AddrPortFrom(lastAddr(c.subnetOf(there)), 9)
		listeners := []net.PacketConn{c.listenToAll(there.Pods[0], to.Port()), c.listenToAll(second, to.Port())}
		before := c.mustStatus(here).Tx
		c.must(sender.Do(func() error { return sendBroadcast(to, "hear me") }))
		c.waitFor("the daemon to have seen it", func() error {
			now := c.mustStatus(here).Tx
			if now.Packets+now.Drops["multicast"] == before.Packets+before.Drops["multicast"] {
				return errors.New("it has not")
			}
			return nil
		})
		for i, l := range listeners {
			c.must(l.SetReadDeadline(time.Now().Add(map[bool]time.Duration{true: patience, false: silence}[asked])))
			n, from, err := l.ReadFrom(make([]byte, 100))
			if heard := err == nil; heard != asked {
				t.Errorf("asked %v: pod %d got %d bytes from %v, %v", asked, i, n, from, err)
			}
		}
		// The host's own multicast and broadcast through the device end in the daemon.
		before = c.mustStatus(here).Tx
		c.must(here.Do(func() error {
			device := c.linkOf(here.Namespace, defaultTunName).Attrs().Name
			return errors.Join(sendBroadcastBy(device, netip.MustParseAddrPort("239.1.1.1:9"), "x"), sendBroadcastBy(device, netip.MustParseAddrPort("255.255.255.255:9"), "x"))
		}))
		c.waitFor("both to be dropped", func() error {
			if now := c.mustStatus(here).Tx; now.Drops["multicast"] != before.Drops["multicast"]+2 {
				return fmt.Errorf("drops were %v and are %v", before.Drops, now.Drops)
			}
			return nil
		})
		c.pingAll()
	}
}

// listenToAll opens a socket of a pod that also hears broadcasts.
func (c *cluster) listenToAll(n *lab.Namespace, port uint16) (conn net.PacketConn) {
	c.t.Helper()
	c.must(n.Do(func() (err error) {
		conn, err = net.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	}))
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// sendBroadcast sends a datagram from the thread's namespace to many, by the route,
// and sendBroadcastBy through a device.
func sendBroadcast(to netip.AddrPort, text string) error { return sendBroadcastBy("", to, text) }

func sendBroadcastBy(device string, to netip.AddrPort, text string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
		return err
	}
	if device != "" {
		if err := unix.BindToDevice(fd, device); err != nil {
			return err
		}
	}
	return unix.Sendto(fd, []byte(text), 0, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
}

// lastAddr is a /24's broadcast address.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	b[3] = 255
	return netip.AddrFrom4(b)
}

// Errors come back to the pod from whoever has them to report: our host, the
// tunnel, the other host, the other pod.
func TestWorldICMPErrors(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll()
	pods := c.pods()
	here, there := c.Hosts[0], c.Hosts[1]
	for ttl, hop := range map[int]netip.Addr{
		1: here.Gateway().Addr(), 2: c.subnetOf(here).Addr(), 3: c.subnetOf(there).Addr(),
	} {
		_, err := lab.Ping(c.ctx, pods[0], pods[1].Addr(), lab.PingOptions{TTL: ttl})
		checkICMPError(t, err, hop, ipv4.ICMPTypeTimeExceeded, 0)
	}
	// A pod that does not exist: its host finds out by ARP, after some seconds.
	_, err := lab.Ping(c.ctx, pods[0], netip.MustParseAddr("10.5.0.9"), lab.PingOptions{})
	checkICMPError(t, err, c.subnetOf(here).Addr(), ipv4.ICMPTypeDestinationUnreachable, 0)
	// A closed port on the other pod.
	var conn net.Conn
	c.must(pods[0].Do(func() (err error) {
		conn, err = net.Dial("udp4", netip.AddrPortFrom(pods[1].Addr(), 9).String())
		return err
	}))
	defer conn.Close()
	c.waitFor("port unreachable", func() error {
		conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := conn.Write([]byte("x")); errors.Is(err, unix.ECONNREFUSED) {
			return nil
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("got %v, want connection refused", err)
		}
		return nil
	})
}
