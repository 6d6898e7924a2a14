package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// rfc6040 is figure 4 of RFC 6040, with the marks of what is only alarming left out.
const rfc6040 = `
inner     Not-ECT   ECT(0)    ECT(1)    CE
Not-ECT   Not-ECT   Not-ECT   Not-ECT   drop
ECT(0)    ECT(0)    ECT(0)    ECT(1)    CE
ECT(1)    ECT(1)    ECT(1)    ECT(1)    CE
CE        CE        CE        CE        CE
`

func TestTakeTOS(t *testing.T) {
	code := map[string]byte{"Not-ECT": 0, "ECT(1)": 1, "ECT(0)": 2, "CE": 3}
	var rows [][]string
	for line := range strings.Lines(strings.TrimSpace(rfc6040)) {
		rows = append(rows, strings.Fields(line))
	}
	twill, flannel := NewTwillPeer(nearSubnet, nearEndpoint), NewPeer(nearSubnet, nearEndpoint)
	for _, row := range rows[1:] {
		for column, outer := range rows[0][1:] {
			for _, innerDSCP := range []byte{0, 0xb8, 0xfc} {
				for _, outerDSCP := range []byte{0, 0xb8, 0x20} {
					for _, peer := range []*Peer{twill, flannel, nil} {
						dscp := innerDSCP
						if peer == twill {
							dscp = outerDSCP
						}
						packet := edit(udpPacket(nearPod, ownPod, 10), offTOS, innerDSCP|code[row[0]])
						got := bytes.Clone(packet)
						reason := takeTOS(got, outerDSCP|code[outer], peer)
						if row[1+column] == "drop" {
							if reason != DropECN {
								t.Errorf("inner %s, outer %s: kept", row[0], outer)
							}
							continue
						}
						if want := edit(packet, offTOS, dscp|code[row[1+column]]); reason != kept || !bytes.Equal(got, want) {
							t.Errorf("inner %s, outer %s: %v, %x, want %x", row[0], outer, reason, got[:20], want[:20])
						}
					}
				}
			}
		}
	}
}

// The outer TOS is the inner one's, but without ECN where the peer would lose the marks; also in segments and fragments.
func TestOuterTOS(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, peer := range []*Peer{NewTwillPeer(nearSubnet, nearEndpoint), NewPeer(nearSubnet, nearEndpoint)} {
		rig := newRig(t, SpoofStrict).record()
		rig.near = peer
		peer.limit.Store(1000)
		rig.tunnel.SetTable(NewTable(ownSubnet, []*Peer{peer}))
		for range 300 {
			s := randomSuper(r)
			s.packet[offFragment], s.packet[offFragment+1] = 0, 0
			fixChecksum(s.packet)
			rig.routed(s)
			want := s.packet[offTOS]
			if !peer.twill {
				want &^= ecnMask
			}
			for _, p := range rig.sent {
				if p.TOS != want || p.Head[offTOS] != s.packet[offTOS] {
					t.Fatalf("inner TOS %02x is sent as %02x in %02x, want %02x", s.packet[offTOS], p.Head[offTOS], p.TOS, want)
				}
			}
		}
	}
}

// Every datagram arrives with the TOS that it was sent with, in whatever groups.
func TestTOSOnSockets(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, offloads := range []Offloads{AllOffloads, {}, {UDPSegment: true}} {
		from, to := listenWith(t, anyPort, offloads), listenWith(t, anyPort, offloads)
		peer := peerAt(to.LocalAddr())
		for range 50 {
			var batch []Packet
			tos := byte(0)
			for i := range 1 + r.IntN(60) {
				if r.IntN(4) == 0 {
					tos = byte(r.IntN(3)) * 0x5d
				}
				batch = append(batch, Packet{Head: slices.Concat([]byte{byte(i), tos}, make([]byte, 98)), Peer: peer, TOS: tos})
			}
			for rest := batch; len(rest) > 0; {
				n, err := from.Send(rest)
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			for _, d := range receive(t, to, len(batch)) {
				if d.TOS != d.Data[1] {
					t.Fatalf("%v: datagram %d arrived with TOS %02x, want %02x", offloads, d.Data[0], d.TOS, d.Data[1])
				}
			}
		}
	}
}

// What a pod writes into the TOS byte reaches the other pod, and a congested underlay's mark does too.
func TestOverlayTOS(t *testing.T) {
	a, b := newOverlay(t, 1)
	b.tunnel.SetTable(NewTable(b.subnet, []*Peer{NewTwillPeer(a.subnet, a.endpoint)}))
	client, server := udpPair(t, a, b)
	setTOS := func(conn *net.UDPConn, option, value int) {
		raw, err := conn.SyscallConn()
		if err == nil {
			err = control(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, option, value) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	setTOS(server, unix.IP_RECVTOS, 1)
	exchange := func(sent, want int) {
		t.Helper()
		setTOS(client, unix.IP_TOS, sent)
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if got, err := receivedTOS(server); err != nil || got != want {
			t.Errorf("sent with TOS %02x: received %02x, %v; want %02x", sent, got, err, want)
		}
	}
	exchange(0, 0)
	exchange(0xb8|ecnECT0, 0xb8|ecnECT0)
	exchange(0x20|ecnECT1, 0x20|ecnECT1)

	a.iptables(t, "-t", "mangle", "-A", "POSTROUTING", "-o", "underlay", "-p", "udp", "-j", "TOS", "--set-tos", "0x03/0x03")
	exchange(0xb8|ecnECT0, 0xb8|ecnCE)
	exchange(ecnECT1, ecnCE)
	setTOS(client, unix.IP_TOS, 0xb8)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the drop", func() bool { return b.tunnel.Stats().Rx.Drops[DropECN] == 1 })

	a.iptables(t, "-t", "mangle", "-F")
	a.iptables(t, "-t", "mangle", "-A", "POSTROUTING", "-o", "underlay", "-p", "udp", "-j", "TOS", "--set-tos", "0x28/0xfc")
	exchange(0xb8|ecnECT0, 0x28|ecnECT0)
}

// TCP with ECN goes through super-packets of which some segments are marked.
func TestOverlayECN(t *testing.T) {
	a, b := newOverlay(t, 1)
	for _, h := range []*overlayHost{a, b} {
		h.pod.sysctl(t, "net/ipv4/tcp_ecn", "1")
	}
	a.iptables(t, "-t", "mangle", "-A", "POSTROUTING", "-o", "underlay", "-p", "udp",
		"-m", "statistic", "--mode", "nth", "--every", "50", "--packet", "0", "-m", "tos", "--tos", "0x02/0x03", "-j", "TOS", "--set-tos", "0x03/0x03")
	checkTCP(t, a, b)
	if n := counterOf(t, b.pod, "InCEPkts"); n == 0 {
		t.Error("no packet arrived with a mark")
	}
	if drops := b.tunnel.Stats().Rx.Drops; drops != (Counters{}).Drops {
		t.Errorf("inbound drops %v, want none", drops)
	}
}

// receivedTOS receives a datagram and returns its TOS.
func receivedTOS(conn *net.UDPConn) (int, error) {
	oob := make([]byte, 64)
	_, n, _, _, err := conn.ReadMsgUDPAddrPort(make([]byte, 10), oob)
	if err != nil {
		return 0, err
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 || messages[0].Header.Type != unix.IP_TOS {
		return 0, errors.Join(fmt.Errorf("%d control messages, want the TOS", len(messages)), err)
	}
	return int(messages[0].Data[0]), nil
}

// iptables runs it in the namespace.
func (n *namespace) iptables(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("iptables")
	if err != nil {
		t.Fatalf("%v: install iptables", err)
	}
	n.do(t, func() error {
		out, err := exec.Command(path, append([]string{"-w"}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("iptables %v: %w: %s", args, err, out)
		}
		return nil
	})
}

// counterOf returns a counter of the namespace's /proc/net/netstat.
func counterOf(t *testing.T, n *namespace, name string) (value int) {
	t.Helper()
	n.do(t, func() error {
		data, err := os.ReadFile("/proc/thread-self/net/netstat")
		if err != nil {
			return err
		}
		lines := strings.Split(string(data), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			if at := slices.Index(names, name); at >= 0 {
				_, err := fmt.Sscan(values[at], &value)
				return err
			}
		}
		return fmt.Errorf("no counter %s", name)
	})
	return value
}
