package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func listenWith(t testing.TB, addr netip.AddrPort, offloads Offloads) *udpConn {
	t.Helper()
	conns, err := ListenConfig{Address: addr, Sockets: 1, Offloads: offloads}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns[0].Close() })
	setDeadlines(t, conns[0], time.Now().Add(20*time.Second))
	return conns[0].(*udpConn)
}

// plainSocket is a peer that knows nothing of offloads, as Flannel's is.
func plainSocket(t *testing.T) *net.UDPConn {
	t.Helper()
	socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(anyPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	socket.SetDeadline(time.Now().Add(20 * time.Second))
	return socket
}

// randomBatch returns packets in one piece and in two, with runs of one size, to one of the peers. Together they fit into the
// receive buffer of any socket.
func randomBatch(r *rand.Rand, peers ...*Peer) []Packet {
	batch := make([]Packet, 0, 2*burstSize)
	for room := 80_000; len(batch) < 1+r.IntN(2*burstSize) && room > 0; {
		size, peer := 1+r.IntN(1400), peers[r.IntN(len(peers))]
		if r.IntN(10) == 0 {
			size = 1 + r.IntN(30000)
		}
		for range min(1+r.IntN(70), cap(batch)-len(batch), 1+room/size) {
			room -= size
			data := randomBytes(r, size)
			head := r.IntN(size) + 1
			batch = append(batch, Packet{Head: data[:head], Tail: data[head:], Peer: peer})
		}
	}
	return batch
}

// Each packet of any batch arrives as one datagram, in order, at peers that know of offloads and at one that does not.
func TestSendGroups(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	flannel := plainSocket(t)
	gro, single := listenWith(t, anyPort, AllOffloads), listenWith(t, anyPort, Offloads{})
	peers := []*Peer{
		peerAt(flannel.LocalAddr().(*net.UDPAddr).AddrPort()), peerAt(gro.LocalAddr()), peerAt(single.LocalAddr()),
	}
	from := listenWith(t, anyPort, AllOffloads)
	buffer := make([]byte, 1<<16)
	for range 200 {
		batch := randomBatch(r, peers...)
		want := map[*Peer][][]byte{}
		for _, p := range batch {
			want[p.Peer] = append(want[p.Peer], append(bytes.Clone(p.Head), p.Tail...))
		}
		for rest := batch; len(rest) > 0; {
			n, err := from.Send(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		for i, w := range want[peers[0]] {
			n, err := flannel.Read(buffer)
			if err != nil || !bytes.Equal(buffer[:n], w) {
				t.Fatalf("datagram %d for the plain peer: %d bytes, %v; want %d", i, n, err, len(w))
			}
		}
		for i, conn := range []*udpConn{gro, single} {
			w := want[peers[1+i]]
			for j, d := range receive(t, conn, len(w)) {
				if !bytes.Equal(d.Data, w[j]) || d.From != from.LocalAddr() || d.Truncated {
					t.Fatalf("datagram %d for %v: %d bytes from %v, want %d", j, conn.Modes(), len(d.Data), d.From, len(w[j]))
				}
			}
		}
	}
	if !from.modes.segment.on() || !gro.modes.gro.on() {
		t.Errorf("modes %v and %v: want all on", from.Modes(), gro.Modes())
	}
}

// groupLen against the rule, told in another way: the longest prefix that is a group.
func TestGroupLen(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	isGroup := func(packets []Packet) bool {
		total := 0
		for i, p := range packets {
			total += p.Len()
			last := i == len(packets)-1
			if p.Peer != packets[0].Peer || p.Len() > packets[0].Len() || p.Len() < packets[0].Len() && !last {
				return false
			}
		}
		return len(packets) == 1 || len(packets) <= 63 && total <= 65507
	}
	a, b := peerAt(nearEndpoint), peerAt(farEndpoint)
	for range 500 {
		batch := randomBatch(r, a, b)
		want := 1
		for want < len(batch) && isGroup(batch[:want+1]) {
			want++
		}
		// The limit in bytes counts the last packet as if it were as long as the others.
		if got := groupLen(batch); got != want && !(got == want-1 && want*batch[0].Len() > maxUDPPayload) {
			t.Fatalf("group of %d, want %d", got, want)
		}
	}
}

// A kernel that refuses groups but takes packets one by one has its offload switched off, and nothing is lost.
func TestSegmentSwitchedOff(t *testing.T) {
	from, to := listenWith(t, anyPort, AllOffloads), listenWith(t, anyPort, AllOffloads)
	// The kernel does not segment for a socket without checksums: EINVAL.
	err := control(from.raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) })
	if err != nil {
		t.Fatal(err)
	}
	batch := fill([]Packet{{Head: []byte("head"), Tail: []byte("tail"), Peer: peerAt(to.LocalAddr())}})
	for rest := batch; len(rest) > 0; {
		n, err := from.Send(rest)
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	receive(t, to, len(batch))
	mode := from.Modes()[0]
	if mode.On || mode.Offload != "udp-segment" || mode.Why != brokenWhy(unix.EINVAL) {
		t.Errorf("mode %+v, want off because of %v", mode, unix.EINVAL)
	}
}

// A group that is refused as too large, while its packets pass a moment later, costs neither packets nor the offload.
func TestGroupTooBigForAMoment(t *testing.T) {
	from, to := listenWith(t, anyPort, AllOffloads), listenWith(t, anyPort, AllOffloads)
	refusals := 0
	from.sender.sendmmsg = func(fd uintptr) bool {
		if s := &from.sender; s.counts[0] > 1 && refusals < 3 {
			refusals++
			s.err = unix.EMSGSIZE
			return true
		}
		return from.sender.sendPending(fd)
	}
	batch := fill([]Packet{{Head: []byte("head"), Tail: []byte("tail"), Peer: peerAt(to.LocalAddr())}})
	for rest := batch; len(rest) > 0; {
		n, err := from.Send(rest)
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	receive(t, to, len(batch))
	if refusals != 3 || !from.modes.segment.on() {
		t.Errorf("after %d refusals %+v, want 3 and the offload on", refusals, from.Modes()[0])
	}
}

// Packets that are too large for the way are refused with the group that they are in, a shorter last one is not; that is not the
// offload's fault.
func TestGroupTooBigForTheUnderlay(t *testing.T) {
	small := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "tw-small", MTU: 1000}, PeerName: "tw-other"}
	if err := netlink.LinkAdd(small); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { deleteLink(t, "tw-small") })
	addr := netip.MustParsePrefix("198.18.7.1/24")
	if err := errors.Join(netlink.AddrAdd(small, &netlink.Addr{IPNet: ipNet(addr)}), netlink.LinkSetUp(small)); err != nil {
		t.Fatal(err)
	}
	from := listenWith(t, netip.AddrPortFrom(addr.Addr(), 0), AllOffloads)
	peer := peerAt(netip.MustParseAddrPort("198.18.7.2:8285"))
	large, fits := Packet{Head: make([]byte, 973), Peer: peer}, Packet{Head: make([]byte, 972), Peer: peer}
	batch := []Packet{fits, fits, large, large, large, fits, fits}
	want := []string{"2 <nil>", "3 " + unix.EMSGSIZE.Error(), "2 <nil>"}
	for i := 0; len(batch) > 0; i++ {
		n, err := from.Send(batch)
		if got := fmt.Sprint(n, " ", err); got != want[i] {
			t.Fatalf("send %d: %s, want %s", i, got, want[i])
		}
		batch = batch[n:]
	}
	if !from.modes.segment.on() {
		t.Errorf("the offload was switched off: %v", from.Modes())
	}
}

func TestSendGroupsDoesNotAllocate(t *testing.T) {
	from, to := listenWith(t, anyPort, AllOffloads), listenWith(t, anyPort, AllOffloads)
	batch := fill([]Packet{{Head: make([]byte, 28), Tail: make([]byte, 900), Peer: peerAt(to.LocalAddr())}})
	batch[10].Tail = batch[10].Tail[1:] // two groups
	batch[20].TOS = 0xb8                // and a single one between two
	checkNoAllocs(t, "send and receive", func() error {
		for rest := batch; len(rest) > 0; {
			n, err := from.Send(rest)
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
		for n := 0; n < len(batch); {
			datagrams, err := to.Receive()
			if err != nil {
				return err
			}
			n += len(datagrams)
		}
		return nil
	})
}

// A group of more datagrams than a burst has room for comes in several bursts.
func TestReceiveLargeGroup(t *testing.T) {
	var r groReceiver
	data := randomBytes(rand.New(rand.NewPCG(35, 36)), 1000)
	header := (*unix.Cmsghdr)(unsafe.Pointer(&r.control))
	header.Level, header.Type = unix.IPPROTO_UDP, unix.UDP_GRO
	header.SetLen(unix.CmsgLen(4))
	*(*int32)(unsafe.Pointer(&r.control[2])) = 3
	r.msg.SetControllen(unix.CmsgLen(4))
	r.take(data)
	var got []byte
	bursts := 0
	for ; r.n > 0; bursts++ {
		for _, d := range r.datagrams[:r.n] {
			if len(d.Data) != 3 && len(got)+len(d.Data) != len(data) {
				t.Fatalf("datagram of %d bytes, want 3", len(d.Data))
			}
			got = append(got, d.Data...)
		}
		r.n = 0
		r.cut()
	}
	if !bytes.Equal(got, data) || bursts != 3 {
		t.Errorf("%d bytes in %d bursts, want %d in 3", len(got), bursts, len(data))
	}
}

func TestReceiveGroupSaysTruncated(t *testing.T) {
	from, to := plainSocket(t), listenWith(t, anyPort, AllOffloads)
	r := to.receiver.(*groReceiver)
	if _, err := from.WriteToUDPAddrPort(make([]byte, 100), to.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	err := to.raw.Read(func(fd uintptr) bool {
		n, errno := r.receiveGroup(fd, r.buffer[:10])
		if errno == unix.EAGAIN {
			return false
		}
		r.take(r.buffer[:n])
		return true
	})
	if err != nil || r.n != 1 || len(r.datagrams[0].Data) != 10 || !r.datagrams[0].Truncated {
		t.Errorf("%v: %d datagrams, the first %+v; want one of 10 bytes, truncated", err, r.n, r.datagrams[0])
	}
}

func TestReceiveEmptyDatagram(t *testing.T) {
	from := plainSocket(t)
	for _, offloads := range []Offloads{AllOffloads, {}} {
		to := listenWith(t, anyPort, offloads)
		for _, data := range []string{"", "x"} {
			if _, err := from.WriteToUDPAddrPort([]byte(data), to.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		if got := receive(t, to, 2); len(got[0].Data) != 0 || string(got[1].Data) != "x" {
			t.Errorf("%v: got %q and %q, want an empty datagram and x", offloads, got[0].Data, got[1].Data)
		}
	}
}
