package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

func listen(t *testing.T, addr netip.AddrPort, n int) []Conn {
	t.Helper()
	conns, err := ListenConfig{Address: addr, Sockets: n}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		t.Cleanup(func() { c.Close() })
		setDeadlines(t, c, time.Now().Add(10*time.Second))
	}
	return conns
}

func setDeadlines(t testing.TB, c Conn, at time.Time) {
	t.Helper()
	if err := errors.Join(c.SetReadDeadline(at), c.SetWriteDeadline(at)); err != nil {
		t.Fatal(err)
	}
}

// peerAt returns a peer for packets that shall go to addr.
func peerAt(addr netip.AddrPort) *Peer { return NewPeer(nearSubnet, addr) }

func TestListenPortInUse(t *testing.T) {
	for _, tt := range []struct{ first, second int }{{1, 1}, {1, 2}, {2, 1}, {2, 2}} {
		first := listen(t, anyPort, tt.first)
		conns, err := ListenConfig{Address: first[0].LocalAddr(), Sockets: tt.second}.Listen()
		if !errors.Is(err, unix.EADDRINUSE) || conns != nil {
			t.Errorf("%d sockets on the port of %d others: got %v, %v; want %v", tt.second, tt.first, conns, err, unix.EADDRINUSE)
		}
		for _, c := range first {
			c.Close()
		}
		again := listen(t, first[0].LocalAddr(), tt.second)
		if got := len(again); got != tt.second {
			t.Errorf("%d sockets, want %d", got, tt.second)
		}
	}
}

func TestListenErrors(t *testing.T) {
	foreign, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(anyPort))
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	for _, tt := range []struct {
		name string
		addr netip.AddrPort
		n    int
		want string
	}{
		{"foreign process", foreign.LocalAddr().(*net.UDPAddr).AddrPort(), 1, "another process"},
		{"foreign address", netip.MustParseAddrPort("192.0.2.1:8285"), 2, "not on any interface of this host"},
		{"IPv6", netip.MustParseAddrPort("[::1]:8285"), 1, "want an IPv4 address"},
		{"no address", netip.AddrPort{}, 1, "want an IPv4 address"},
		{"no socket", anyPort, 0, "want 1 to 256"},
		{"too many sockets", anyPort, 257, "want 1 to 256"},
	} {
		conns, err := ListenConfig{Address: tt.addr, Sockets: tt.n}.Listen()
		if err == nil || conns != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, %v; want an error with %q", tt.name, conns, err, tt.want)
		}
	}
}

func TestSocketOptions(t *testing.T) {
	for _, c := range listen(t, anyPort, 2) {
		for _, tt := range []struct {
			name          string
			level, option int
			want          int
		}{
			{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
			{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
		} {
			got := 0
			err := control(c.(*udpConn).raw, func(fd int) (err error) {
				got, err = unix.GetsockoptInt(fd, tt.level, tt.option)
				return err
			})
			if err != nil || got != tt.want {
				t.Errorf("%s is %d (%v), want %d", tt.name, got, err, tt.want)
			}
		}
	}
}

// One burst with every kind of packet arrives as it was sent, with the sender's address.
func TestSendAndReceive(t *testing.T) {
	a, b := listen(t, anyPort, 1)[0], listen(t, anyPort, 1)[0]
	to := peerAt(b.LocalAddr())
	long := bytes.Repeat([]byte("0123456789"), 6550)
	packets := []Packet{
		{Head: []byte("one"), Peer: to},
		{Head: []byte("head "), Tail: []byte("and tail"), Peer: to},
		{Head: long, Peer: to},
		{Head: []byte("x"), Peer: to},
	}
	if n, err := a.Send(packets); n != len(packets) || err != nil {
		t.Fatalf("sent %d packets, %v; want %d", n, err, len(packets))
	}
	got := receive(t, b, len(packets))
	for i, want := range []string{"one", "head and tail", string(long), "x"} {
		if string(got[i].Data) != want || got[i].From != a.LocalAddr() || got[i].Truncated {
			t.Errorf("datagram %d: got %d bytes from %s, truncated %v; want %d from %s",
				i, len(got[i].Data), got[i].From, got[i].Truncated, len(want), a.LocalAddr())
		}
	}
}

// receive returns copies of the next n datagrams.
func receive(t *testing.T, c Conn, n int) []Datagram {
	t.Helper()
	var all []Datagram
	for len(all) < n {
		datagrams, err := c.Receive()
		if err != nil {
			t.Fatalf("after %d of %d datagrams: %v", len(all), n, err)
		}
		for _, d := range datagrams {
			d.Data = bytes.Clone(d.Data)
			all = append(all, d)
		}
	}
	return all
}

// More packets than a burst go in several calls.
func TestSendMoreThanABurst(t *testing.T) {
	a, b := listen(t, anyPort, 1)[0], listen(t, anyPort, 1)[0]
	packets := make([]Packet, 3*burstSize+5)
	for i := range packets {
		packets[i] = Packet{Head: []byte{byte(i)}, Peer: peerAt(b.LocalAddr())}
	}
	for rest := packets; len(rest) > 0; {
		n, err := a.Send(rest)
		if err != nil || n == 0 {
			t.Fatalf("sent %d packets, %v", n, err)
		}
		rest = rest[n:]
	}
	for i, d := range receive(t, b, len(packets)) {
		if d.Data[0] != byte(i) {
			t.Fatalf("datagram %d holds packet %d", i, d.Data[0])
		}
	}
}

func TestReceiveSaysTruncated(t *testing.T) {
	a, b := listen(t, anyPort, 1)[0], listen(t, anyPort, 1)[0]
	for i := range b.(*udpConn).receiver.(*receiver).iovecs {
		b.(*udpConn).receiver.(*receiver).iovecs[i].SetLen(10)
	}
	to := peerAt(b.LocalAddr())
	if _, err := a.Send([]Packet{{Head: make([]byte, 11), Peer: to}, {Head: make([]byte, 10), Peer: to}}); err != nil {
		t.Fatal(err)
	}
	got := receive(t, b, 2)
	if len(got[0].Data) != 10 || !got[0].Truncated || len(got[1].Data) != 10 || got[1].Truncated {
		t.Errorf("got %d and %d bytes, truncated %v and %v; want 10 and 10, true and false",
			len(got[0].Data), len(got[1].Data), got[0].Truncated, got[1].Truncated)
	}
}

// Errors of the real kernel come back for the packet they are about, which is then the first.
func TestSendErrors(t *testing.T) {
	a, b := listen(t, anyPort, 1)[0], listen(t, anyPort, 1)[0]
	to := peerAt(b.LocalAddr())
	good := Packet{Head: []byte("good"), Peer: to}
	prohibited := netip.MustParsePrefix("203.0.113.1/32")
	route := &netlink.Route{Dst: ipNet(prohibited), Type: unix.RTN_PROHIBIT}
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	defer netlink.RouteDel(route)
	for _, tt := range []struct {
		name string
		bad  Packet
		want DropReason
	}{
		{"larger than UDP", Packet{Head: make([]byte, maxPacket), Peer: to}, DropSendTooBig},
		{"no route", Packet{Head: []byte("bad"), Peer: peerAt(farEndpoint)}, DropSendUnreachable},
		{"prohibited", Packet{Head: []byte("bad"), Peer: peerAt(netip.AddrPortFrom(prohibited.Addr(), 1))}, DropSendForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			packets := []Packet{good, tt.bad, good}
			n, err := a.Send(packets)
			if n != 1 || err != nil {
				t.Fatalf("sent %d packets, %v; want 1", n, err)
			}
			n, err = a.Send(packets[1:])
			if n != 1 || err == nil || sendDropReason(err) != tt.want {
				t.Fatalf("%d packets: %v; want 1 and an error for %v", n, err, tt.want)
			}
			if n, err = a.Send(packets[2:]); n != 1 || err != nil {
				t.Fatalf("sent %d packets, %v; want 1", n, err)
			}
			receive(t, b, 2)
		})
	}
}

// Several sockets of one port divide the flows between them and lose none.
func TestReusePortGroup(t *testing.T) {
	group := listen(t, anyPort, 2)
	const flows = 32
	for i := range flows {
		from := listen(t, anyPort, 1)[0]
		if _, err := from.Send([]Packet{{Head: []byte{byte(i)}, Peer: peerAt(group[0].LocalAddr())}}); err != nil {
			t.Fatal(err)
		}
	}
	// Loopback has delivered when Send returns, so whatever comes is there.
	seen := map[byte]bool{}
	for i, c := range group {
		n := 0
		for {
			c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			datagrams, err := c.Receive()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range datagrams {
				seen[d.Data[0]] = true
				n++
			}
		}
		if n == 0 {
			t.Errorf("socket %d got none of %d flows", i, flows)
		}
	}
	if len(seen) != flows {
		t.Errorf("%d of %d flows arrived", len(seen), flows)
	}
}

func TestConnDeadlineAndClose(t *testing.T) {
	c := listen(t, anyPort, 1)[0]
	for _, deadline := range []time.Time{time.Now().Add(20 * time.Millisecond), time.Unix(1, 0)} {
		setDeadlines(t, c, deadline)
		if datagrams, err := c.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Receive without datagrams returned %d, %v; want %v", len(datagrams), err, os.ErrDeadlineExceeded)
		}
	}
	if _, err := c.Send([]Packet{{Head: []byte("x"), Peer: peerAt(c.LocalAddr())}}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Send returned %v, want %v", err, os.ErrDeadlineExceeded)
	}
	setDeadlines(t, c, time.Time{})
	ended := make(chan error)
	go func() { _, err := c.Receive(); ended <- err }()
	c.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive returned %v, want %v", err, net.ErrClosed)
	}
}

func TestSendDoesNotAllocate(t *testing.T) {
	a, b := listen(t, anyPort, 1)[0], listen(t, anyPort, 1)[0]
	packets := fill([]Packet{{Head: make([]byte, 28), Tail: make([]byte, 1000), Peer: peerAt(b.LocalAddr())}})
	checkNoAllocs(t, "send", func() error {
		n, err := a.Send(packets)
		if err == nil && n != len(packets) {
			err = fmt.Errorf("sent %d packets, want %d", n, len(packets))
		}
		return err
	})
}

func TestReceiveDoesNotAllocate(t *testing.T) {
	c := listen(t, anyPort, 1)[0]
	write := connectedSocket(t, c.LocalAddr())
	checkNoAllocs(t, "receive", func() error {
		if err := write(10); err != nil {
			return err
		}
		datagrams, err := c.Receive()
		if err == nil && len(datagrams) != 10 {
			err = fmt.Errorf("received %d datagrams, want 10", len(datagrams))
		}
		return err
	})
}

// connectedSocket returns a function that sends n datagrams of 100 bytes to addr, without allocating.
func connectedSocket(t *testing.T, addr netip.AddrPort) (write func(n int) error) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 100)
	return func(n int) error {
		for range n {
			if _, err := unix.Write(fd, payload); err != nil {
				return err
			}
		}
		return nil
	}
}
