package routes

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// testPort is where everybody listens, and what everybody sends from.
const testPort = 9000

// TestTraffic checks the rules by what they do to packets. The test's own
// namespace is the host; it has a pod, a neighbour outside the overlay, and
// the far pods behind the TUN device, for which the test reads and writes.
func TestTraffic(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		ipt.do(t, "-P FORWARD DROP") // as Docker does
		noError(t, EnableForwarding())
		pod := addPeer(t, "docker0", "10.5.72.1/24", "10.5.72.2/24")
		outside := addPeer(t, "eth0", "198.18.0.1/24", "198.18.0.2/24")
		tun := openTUN(t, testLink.Name) // before it is up, so that it has a carrier and a queue then
		noError(t, testLink.Apply())

		near, neighbour := netip.MustParseAddr("10.5.72.2"), netip.MustParseAddr("198.18.0.2")
		// Two, and in the order below, so that none looks like the answer to
		// another: answers undergo no translation.
		far, farther := netip.MustParseAddr("10.5.9.9"), netip.MustParseAddr("10.5.8.8")
		exchanges := []struct {
			name    string
			send    func(text string)
			receive func() (text string, source netip.Addr)
			source  netip.Addr // that the receiver sees
		}{
			{"pod to far pod", sendTo(t, pod, far), readTUN(t, tun), near},
			{"far pod to pod", writeTUN(t, tun, farther, near), receive(t, pod), farther},
			{"pod to outside", sendTo(t, pod, neighbour), receive(t, outside), netip.MustParseAddr("198.18.0.1")},
			{"outside to pod", sendTo(t, outside, near), receive(t, pod), neighbour},
			{"outside to far pod", sendTo(t, outside, far), readTUN(t, tun), testLink.Address},
		}
		for _, e := range exchanges {
			// What is sent before the rules are there must not arrive: if it did,
			// it would arrive first.
			e.send("early " + e.name)
			f := mustApply(t, ipt, testFirewall)
			e.send(e.name)
			text, source := e.receive()
			if text != e.name {
				t.Errorf("%s: received %q", e.name, text)
			}
			if source != e.source {
				t.Errorf("%s: the source is %s, want %s", e.name, source, e.source)
			}
			noError(t, f.Remove())
		}

		// From here on everybody sends to the port of tunnels.
		tunnels := testFirewall
		tunnels.Port = testPort
		mustApply(t, ipt, tunnels)
		sendTo(t, pod, neighbour)("to a tunnel")
		sendTo(t, pod, far)("to the same port in the overlay")
		if text, _ := readTUN(t, tun)(); text != "to the same port in the overlay" {
			t.Errorf("the far pod received %q", text)
		}
		mustApply(t, ipt, testFirewall)
		sendTo(t, pod, neighbour)("to another port")
		if text, _ := receive(t, outside)(); text != "to another port" {
			t.Errorf("the neighbour received %q", text)
		}
	})
}

// addPeer makes a namespace that is connected with the test's by a veth pair
// and has it as default router. It returns a socket there.
func addPeer(t *testing.T, device, addr, peerAddr string) *net.UDPConn {
	t.Helper()
	type result struct {
		ns  netns.NsHandle
		err error
	}
	made, connected, listening := make(chan result), make(chan struct{}), make(chan error, 1)
	var conn *net.UDPConn
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := unix.Unshare(unix.CLONE_NEWNET)
		var ns netns.NsHandle
		if err == nil {
			ns, err = currentNamespace()
		}
		made <- result{ns, err}
		<-connected
		if err == nil {
			conn, err = listenInPeer(peerAddr, netip.MustParsePrefix(addr).Addr())
		}
		listening <- err
	}()
	r := <-made
	noError(t, r.err)
	defer r.ns.Close()
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: device}, PeerName: "eth0", PeerNamespace: netlink.NsFd(r.ns)}
	noError(t, netlink.LinkAdd(link))
	noError(t, netlink.LinkSetUp(link))
	addAddress(t, link, netlink.Addr{IPNet: ipNet(addr)})
	close(connected)
	noError(t, <-listening)
	t.Cleanup(func() { conn.Close() })
	greet(t, conn, netip.MustParsePrefix(peerAddr).Addr(), netip.MustParsePrefix(addr).Addr())
	return conn
}

// greet sends a packet each way, so that both sides have resolved the other's
// address: later no packet waits for that while the test changes the rules.
func greet(t *testing.T, peer *net.UDPConn, peerAddr, addr netip.Addr) {
	t.Helper()
	host, err := net.ListenUDP("udp4", &net.UDPAddr{IP: addr.AsSlice(), Port: testPort})
	noError(t, err)
	defer host.Close()
	sendTo(t, peer, addr)("hello")
	receive(t, host)()
	sendTo(t, host, peerAddr)("hello")
	receive(t, peer)()
}

func listenInPeer(addr string, router netip.Addr) (*net.UDPConn, error) {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return nil, err
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return nil, fmt.Errorf("add address: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set up: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet("0.0.0.0/0"), Gw: router.AsSlice()}); err != nil {
		return nil, fmt.Errorf("add default route: %w", err)
	}
	return net.ListenUDP("udp4", &net.UDPAddr{Port: testPort})
}

// openTUN makes a TUN device that ends with the test; the file has deadlines.
func openTUN(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	noError(t, err)
	request, err := unix.NewIfreq(name)
	noError(t, err)
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	noError(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
	tun := os.NewFile(uintptr(fd), "/dev/net/tun")
	t.Cleanup(func() { tun.Close() })
	return tun
}

func sendTo(t *testing.T, from *net.UDPConn, to netip.Addr) func(string) {
	return func(text string) {
		_, err := from.WriteToUDPAddrPort([]byte(text), netip.AddrPortFrom(to, testPort))
		noError(t, err)
	}
}

func receive(t *testing.T, at *net.UDPConn) func() (string, netip.Addr) {
	return func() (string, netip.Addr) {
		buf := make([]byte, 1500)
		noError(t, at.SetReadDeadline(time.Now().Add(10*time.Second)))
		n, source, err := at.ReadFromUDPAddrPort(buf)
		noError(t, err)
		return string(buf[:n]), source.Addr().Unmap()
	}
}

// Lengths in bytes of headers without options (RFC 791, RFC 768).
const ipHeader, udpHeader = 20, 8

func readTUN(t *testing.T, tun *os.File) func() (string, netip.Addr) {
	return func() (string, netip.Addr) {
		buf := make([]byte, 1500)
		noError(t, tun.SetReadDeadline(time.Now().Add(10*time.Second)))
		for {
			n, err := tun.Read(buf)
			noError(t, err)
			if n >= ipHeader+udpHeader && buf[0] == 0x45 && buf[9] == unix.IPPROTO_UDP { // not the kernel's own IPv6
				return string(buf[ipHeader+udpHeader : n]), netip.AddrFrom4([4]byte(buf[12:16]))
			}
		}
	}
}

func writeTUN(t *testing.T, tun *os.File, from, to netip.Addr) func(string) {
	return func(text string) {
		packet := make([]byte, ipHeader+udpHeader, 1500)
		packet = append(packet, text...)
		packet[0], packet[8], packet[9] = 0x45, 64, unix.IPPROTO_UDP
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		copy(packet[12:], from.AsSlice())
		copy(packet[16:], to.AsSlice())
		sum := uint32(0)
		for i := 0; i < ipHeader; i += 2 {
			sum += uint32(binary.BigEndian.Uint16(packet[i:]))
		}
		binary.BigEndian.PutUint16(packet[10:], ^uint16(sum+sum>>16))

		udp := packet[ipHeader:] // checksum 0: none
		binary.BigEndian.PutUint16(udp[0:], testPort)
		binary.BigEndian.PutUint16(udp[2:], testPort)
		binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
		_, err := tun.Write(packet)
		noError(t, err)
	}
}
