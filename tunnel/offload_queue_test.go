package tunnel

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sendSuper sends data to near's pod in datagrams of 700 bytes, with one call of UDP_SEGMENT.
func sendSuper(t *testing.T) (data []byte) {
	t.Helper()
	socket, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: nearPod.AsSlice(), Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := control(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 700) }); err != nil {
		t.Fatal(err)
	}
	data = randomBytes(rand.New(rand.NewPCG(41, 42)), 20_001)
	if _, err := socket.Write(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// A device that was used with offloads and is opened without them hands over complete packets.
func TestPlainAfterOffload(t *testing.T) {
	if err := openTUN(t, "tw-after", 1, AllOffloads).Close(); err != nil {
		t.Fatal(err)
	}
	q := openTUN(t, "tw-after", 1, Offloads{}).Queues()[0]
	setUp(t, "tw-after")
	q.SetReadDeadline(time.Now().Add(10 * time.Second))
	want := slices.Collect(slices.Chunk(sendSuper(t), 700))
	for i, p := range readIPv4(t, q, len(want)) {
		if !bytes.Equal(p[minHeaderLen+udpHeaderLen:], want[i]) || slowTransportChecksum(p, len(p)-minHeaderLen, p[minHeaderLen:]) != 0 {
			t.Fatalf("packet %d of %d bytes is not complete", i, len(p))
		}
	}
}

// A socket's UDP_SEGMENT send comes out of the device as one super-packet, which is cut into what the socket meant to send.
func TestReadSuperPacket(t *testing.T) {
	d := openTUN(t, "tw-super", 1, AllOffloads)
	setUp(t, "tw-super")
	q := d.Queues()[0]
	q.SetReadDeadline(time.Now().Add(10 * time.Second))
	data := sendSuper(t)

	var super Packet
	for !super.Offload.isSuper() {
		packets, err := q.Read()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets {
			if p.Head[0]>>4 == 4 {
				super = p
			}
		}
	}
	r := newRig(t, SpoofStrict).record()
	sent := r.routed(superPacket{super.Offload, super.Head})
	want := slices.Collect(slices.Chunk(data, 700))
	if len(sent) != len(want) {
		t.Fatalf("%d segments, want %d", len(sent), len(want))
	}
	for i, p := range sent {
		if !bytes.Equal(p[minHeaderLen+udpHeaderLen:], want[i]) {
			t.Errorf("segment %d differs", i)
		}
		if slowTransportChecksum(p, len(p)-minHeaderLen, p[minHeaderLen:]) != 0 {
			t.Errorf("segment %d has a wrong checksum", i)
		}
	}
}

// udpRun returns n packets of one flow from near's pod to a socket of the host, which is returned as well.
func udpRun(t *testing.T, n, size int) ([]Packet, *net.UDPConn) {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ownAddr.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	socket.SetDeadline(time.Now().Add(10 * time.Second))
	port := socket.LocalAddr().(*net.UDPAddr).Port
	packets := make([]Packet, n)
	for i := range packets {
		p := udpPacket(nearPod, ownAddr, size)
		p[minHeaderLen+2], p[minHeaderLen+3] = byte(port>>8), byte(port)
		p[offFragment] = 0x40
		p[len(p)-1] = byte(i)
		fixChecksum(p)
		setTransportChecksum(p)
		packets[i].Head = p
	}
	return packets, socket
}

// writeAllTo writes packets, none of which may be refused.
func writeAllTo(t *testing.T, q Queue, packets []Packet) {
	t.Helper()
	for len(packets) > 0 {
		n, err := q.Write(packets)
		if err != nil {
			t.Fatal(err)
		}
		packets = packets[n:]
	}
}

func checkReceived(t *testing.T, socket *net.UDPConn, packets []Packet) {
	t.Helper()
	buffer := make([]byte, 1<<16)
	for i, p := range packets {
		n, err := socket.Read(buffer)
		if want := p.Head[minHeaderLen+udpHeaderLen:]; err != nil || !bytes.Equal(buffer[:n], want) {
			t.Fatalf("datagram %d: %d bytes, %v; want %d", i, n, err, len(want))
		}
	}
}

// A run is written as one super-packet, and the socket receives the datagrams.
func TestWriteMerged(t *testing.T) {
	d := openTUN(t, "tw-merged", 1, AllOffloads)
	setUp(t, "tw-merged")
	q := d.Queues()[0].(*queue)
	w := q.writer.(*offloadWriter)
	writes := 0
	w.writev = func(fd uintptr, iovecs []unix.Iovec) error { writes++; return writev(fd, iovecs) }
	packets, socket := udpRun(t, 40, 1000)
	packets = append(packets, packets[0]) // not shorter, so a part of the run as well
	writeAllTo(t, q, packets)
	checkReceived(t, socket, packets)
	if writes != 1 {
		t.Errorf("%d writes, want 1", writes)
	}
}

// A kernel that refuses super-packets but takes packets one by one has its offload switched off, and nothing is lost.
func TestWriteOffloadSwitchedOff(t *testing.T) {
	d := openTUN(t, "tw-broken", 1, AllOffloads)
	setUp(t, "tw-broken")
	q := d.Queues()[0].(*queue)
	w := q.writer.(*offloadWriter)
	w.writev = func(fd uintptr, iovecs []unix.Iovec) error {
		if len(iovecs) > 2 {
			return unix.EINVAL
		}
		return writev(fd, iovecs)
	}
	packets, socket := udpRun(t, 40, 1000)
	writeAllTo(t, q, packets)
	checkReceived(t, socket, packets)
	modes := d.Modes()
	if !modes[0].On || modes[1].On || modes[1].Offload != "uso" || modes[1].Why != brokenWhy(unix.EINVAL) {
		t.Errorf("modes %+v, want tso on and uso off because of %v", modes, unix.EINVAL)
	}
}

// Packets that are refused one by one as well are not the offload's fault.
func TestWriteRefusedRun(t *testing.T) {
	d := openTUN(t, "tw-innocent", 1, AllOffloads)
	setUp(t, "tw-innocent")
	q := d.Queues()[0].(*queue)
	w := q.writer.(*offloadWriter)
	packets, _ := udpRun(t, 5, 100)
	for _, tt := range []struct {
		err  error
		want int
	}{{unix.EINVAL, 1}, {unix.EIO, 5}, {unix.ENOMEM, 5}} {
		w.writev = func(uintptr, []unix.Iovec) error { return tt.err }
		if n, err := q.Write(packets); n != tt.want || err != tt.err {
			t.Errorf("%d packets: %v; want %d, %v", n, err, tt.want, tt.err)
		}
	}
	if modes := d.Modes(); !modes[0].On || !modes[1].On {
		t.Errorf("modes %+v, want all on", modes)
	}
}

func TestOffloadQueueDoesNotAllocate(t *testing.T) {
	d := openTUN(t, "tw-alloc", 1, AllOffloads)
	setUp(t, "tw-alloc")
	packets, _ := udpRun(t, 40, 1000)
	packets[20].Head = packets[20].Head[:1000] // refused by the merger
	checkNoAllocs(t, "write", func() error {
		for rest := packets; len(rest) > 0; {
			n, err := d.Queues()[0].Write(rest)
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
}

func TestParseOffloads(t *testing.T) {
	for _, o := range []Offloads{{}, AllOffloads, {TSO: true}, {USO: true, UDPGRO: true}, {UDPSegment: true, TSO: true, USO: true}} {
		if got, err := ParseOffloads(o.String()); got != o || err != nil {
			t.Errorf("%q: got %+v, %v; want %+v", o.String(), got, err, o)
		}
	}
	if got, err := ParseOffloads("uso, tso"); got != (Offloads{TSO: true, USO: true}) || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, list := range []string{"", "on", "tso,", "tso,off", "TSO"} {
		if _, err := ParseOffloads(list); err == nil {
			t.Errorf("%q: no error", list)
		}
	}
}

// The tunnel tells the modes of its device and its sockets.
func TestModes(t *testing.T) {
	d := openTUN(t, "tw-modes", 1, Offloads{TSO: true})
	conn := listenWith(t, netip.MustParseAddrPort("127.0.0.1:0"), Offloads{UDPGRO: true})
	tunnel, err := New(Config{Device: d, Conns: []Conn{conn}, Address: ownAddr})
	if err != nil {
		t.Fatal(err)
	}
	want := []Mode{
		{Offload: "tso", On: true}, {Offload: "uso", Why: offByConfig},
		{Offload: "udp-segment", Why: offByConfig}, {Offload: "udp-gro", On: true},
	}
	if got := tunnel.Modes(); !slices.Equal(got, want) {
		t.Errorf("modes %+v, want %+v", got, want)
	}
}
