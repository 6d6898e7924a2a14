package main

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"twill/internal/api"
	"twill/internal/lab"
)

// What is wrong with a host itself, or with its etcd, each fault lifted before the next.
func TestDiagnoseHost(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.waitFound(h, api.FindingDaemon, "no twill daemon runs", "systemctl enable")
	c.start(h)
	c.attach(h)
	c.waitHealthy(c.Hosts)

	c.must(h.Exec(c.ctx, "iptables", "-w", "-P", "FORWARD", "DROP"))
	c.waitFound(h, api.FindingFirewall, "-P FORWARD DROP", "iptables -I FORWARD -s "+testNetwork)
	c.must(h.Exec(c.ctx, "iptables", "-w", "-P", "FORWARD", "ACCEPT"))

	c.must(h.Sysctl("net/ipv4/conf/twill0/rp_filter", "1"))
	c.waitFound(h, api.FindingReverse, "strict on twill0", "sysctl -w")
	c.must(h.Sysctl("net/ipv4/conf/twill0/rp_filter", "0"))

	c.must(h.Sysctl("net/ipv4/ip_forward", "0"))
	c.waitFound(h, api.FindingForwarding, "ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1")
	c.must(h.Sysctl("net/ipv4/ip_forward", "1"))
	c.waitHealthy(c.Hosts)

	// Another host claims our subnet in another form of the key.
	own := c.subnetOf(h)
	conflict := leaseKey(own) + "&fd00::-64"
	c.put(conflict, `{"PublicIP":"203.0.113.7","PublicIPv6":"fd00::7"}`)
	c.waitFound(h, api.FindingLeaseUnused, own.String(), "etcdctl del '"+conflict)
	_, err := c.etcd.Delete(c.ctx, conflict)
	c.must(err)

	c.waitFound(h, api.ProblemEtcdSlow, "for an answer", "etcdctl endpoint status", "--etcd-endpoints", c.slowEtcd(700*time.Millisecond))
	c.StopEtcd()
	c.waitFound(h, api.ProblemEtcdAway, "etcd is away", "whether etcd runs")
	c.must(c.StartEtcd(c.ctx))
	c.waitHealthy(c.Hosts)

	link := h.Link()
	eth0, err := link.LinkByName("eth0")
	c.must(err)
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: h.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)}}
	c.must(link.AddrDel(eth0, addr))
	c.waitFound(h, api.ProblemUnderlay, "no usable underlay", "--iface")
	c.must(link.AddrAdd(eth0, addr))
	c.must(h.AddDefaultRoute())
	c.waitHealthy(c.Hosts)

	c.must(h.RemoveBridge())
	c.must(h.AddBridge(netip.MustParsePrefix("10.5.99.1/24"), 1472))
	c.waitFound(h, api.ProblemBridge, "docker0 is in 10.5.99.0/24", "systemctl restart docker")
	c.must(h.RemoveBridge())

	device, err := link.LinkByName("twill0")
	c.must(err)
	c.must(link.LinkDel(device))
	c.waitFound(h, api.FindingDaemon, "the TUN device was deleted", "systemctl start twill")
	c.start(h)
	c.waitHealthy(c.Hosts)
}

// slowEtcd is an etcd that takes its time for each answer.
func (c *cluster) slowEtcd(delay time.Duration) (endpoint string) {
	c.t.Helper()
	l, err := net.Listen("tcp4", net.JoinHostPort(c.Addr().String(), "0"))
	c.must(err)
	c.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp4", netip.AddrPortFrom(c.Addr(), 2379).String())
			if err != nil {
				near.Close()
				continue
			}
			go func() { io.Copy(far, near); far.Close() }()
			go func() { copyLate(near, far, delay); near.Close() }()
		}
	}()
	return "http://" + l.Addr().String()
}

// copyLate passes on what is read, delay later.
func copyLate(to io.Writer, from io.Reader, delay time.Duration) {
	type part struct {
		data []byte
		due  time.Time
	}
	parts := make(chan part, 1000)
	go func() {
		defer close(parts)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			parts <- part{buf[:n], time.Now().Add(delay)}
		}
	}()
	for p := range parts {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			return
		}
	}
}

// replyTo is the reply of the holder of subnet, whose clock says now, to a probe; docs/wire.md.
func replyTo(probe []byte, subnet netip.Prefix, now time.Time) []byte {
	reply := make([]byte, 64)
	copy(reply, probe[:3])
	reply[1], reply[3] = 2, byte(subnet.Bits())
	copy(reply[4:], subnet.Addr().AsSlice())
	copy(reply[8:16], probe[8:16])
	binary.BigEndian.PutUint64(reply[16:], uint64(now.UnixNano()))
	reply[39] = 1 // session
	copy(reply[48:56], probe[40:48])
	binary.BigEndian.PutUint32(reply[56:], uint32(len(probe)))
	return reply
}

// A peer whose clock is an hour ahead: it is a program here that answers as twill does.
func TestDiagnoseClock(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	a, b := c.Hosts[0], c.Hosts[1]
	peer := netip.MustParsePrefix("10.5.0.0/24") // which no daemon takes
	c.answerProbes(b, peer, time.Hour)
	c.put(leaseKey(peer), `{"PublicIP":"`+b.Addr().String()+`","BackendType":"udp","BackendData":{"Proto":1,"Node":"late","NodeID":"late","Port":8285}}`)
	c.start(a, "--probe-interval", "1s")
	c.waitFound(a, api.ProblemClock, "1h0m0s ahead of ours", "timedatectl set-ntp true")
}

// answerProbes answers the probes that reach h, docs/wire.md, with a clock that is ahead.
func (c *cluster) answerProbes(h *lab.Host, subnet netip.Prefix, ahead time.Duration) {
	c.t.Helper()
	var conn *net.UDPConn
	c.must(h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: h.Addr().AsSlice(), Port: 8285})
		return err
	}))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if n >= 64 && buf[0] == 1 && buf[1] == 1 {
				conn.WriteToUDPAddrPort(replyTo(buf[:n], subnet, time.Now().Add(ahead)), from)
			}
		}
	}()
	c.t.Cleanup(func() { conn.Close(); <-ended })
}
