package tunnel

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// eachMode runs a test with the plain and with the offload device.
func eachMode(t *testing.T, test func(t *testing.T, offloads Offloads)) {
	for _, offloads := range []Offloads{{}, AllOffloads} {
		t.Run("offload="+offloads.String(), func(t *testing.T) { test(t, offloads) })
	}
}

// openTUN opens a TUN device that the test's end deletes.
func openTUN(t *testing.T, name string, queues int, offloads Offloads) Device {
	t.Helper()
	d, err := Open(OpenConfig{Name: name, Queues: queues, Offloads: offloads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		deleteLink(t, name)
	})
	return d
}

func deleteLink(t *testing.T, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		t.Errorf("delete %s: %v", name, err)
	}
}

// setUp gives a TUN device the address of our tunnel, sets it up and routes the whole overlay to it.
func setUp(t *testing.T, name string) {
	t.Helper()
	if err := configureTUN(&netlink.Handle{}, name, ownAddr, 1472); err != nil {
		t.Fatal(err)
	}
}

func configureTUN(h *netlink.Handle, name string, addr netip.Addr, mtu int) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	overlay := netip.MustParsePrefix("10.5.0.0/16")
	return errors.Join(
		h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, 32))}),
		h.LinkSetMTU(link, mtu),
		h.LinkSetUp(link),
		h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(overlay), Src: addr.AsSlice()}),
	)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// readIPv4 returns a copy of the next IPv4 packets up to n; the kernel's own IPv6 is left out.
func readIPv4(t *testing.T, q Queue, n int) [][]byte {
	t.Helper()
	var all [][]byte
	for len(all) < n {
		packets, err := q.Read()
		if err != nil {
			t.Fatalf("after %d of %d packets: %v", len(all), n, err)
		}
		for _, p := range packets {
			if p.Head[0]>>4 == 4 {
				all = append(all, bytes.Clone(p.Head))
			}
		}
	}
	return all
}

func TestQueue(t *testing.T) { eachMode(t, checkQueue) }

func checkQueue(t *testing.T, offloads Offloads) {
	d := openTUN(t, "tw-plain", 1, offloads)
	setUp(t, "tw-plain")
	q := d.Queues()[0]
	q.SetReadDeadline(time.Now().Add(10 * time.Second))
	if d.Name() != "tw-plain" || len(d.Queues()) != 1 {
		t.Errorf("device %s with %d queues, want tw-plain with 1", d.Name(), len(d.Queues()))
	}

	// What the host sends to a pod of another host is read, more than a burst of it.
	socket, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: nearPod.AsSlice(), Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	const n = burstSize + 10
	for i := range n {
		if _, err := socket.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range readIPv4(t, q, n) {
		if len(p) != 29 || p[28] != byte(i) || source(p) != ownAddr || destination(p) != nearPod {
			t.Fatalf("packet %d is %x", i, p)
		}
	}

	// What is written or injected reaches a socket of the host.
	local := socket.LocalAddr().(*net.UDPAddr).AddrPort()
	toHost := func(b byte) []byte {
		p := append(udpPacket(nearPod, ownAddr, 0), b)
		p[20], p[21], p[22], p[23] = 0, 9, byte(local.Port()>>8), byte(local.Port())
		p[25] = 9 // UDP length; checksum 0 is none
		setTotalLength(p)
		return p
	}
	if k, err := q.Write([]Packet{{Head: toHost(1)}, {Head: toHost(2)}}); k != 2 || err != nil {
		t.Fatalf("wrote %d packets, %v; want 2", k, err)
	}
	if err := q.Inject(toHost(3)); err != nil {
		t.Fatal(err)
	}
	socket.SetDeadline(time.Now().Add(10 * time.Second))
	for want := byte(1); want <= 3; want++ {
		var b [2]byte
		if k, err := socket.Read(b[:]); k != 1 || b[0] != want || err != nil {
			t.Fatalf("got %d bytes %x, %v; want %d", k, b, err, want)
		}
	}
}

// The kernel refuses nonsense; the packets around it are taken.
func TestQueueWriteRefused(t *testing.T) { eachMode(t, checkQueueWriteRefused) }

func checkQueueWriteRefused(t *testing.T, offloads Offloads) {
	d := openTUN(t, "tw-refused", 1, offloads)
	setUp(t, "tw-refused")
	q := d.Queues()[0]
	good := Packet{Head: udpPacket(nearPod, ownAddr, 0)}
	burst := []Packet{good, {Head: []byte{0x10, 0, 0}}, good}
	for i, want := range []error{nil, unix.EINVAL, nil} {
		if n, err := q.Write(burst[i:]); n != 1 || err != want {
			t.Errorf("packet %d: %d packets, %v; want 1, %v", i, n, err, want)
		}
	}
}

func TestDeviceDown(t *testing.T) { eachMode(t, checkDeviceDown) }

func checkDeviceDown(t *testing.T, offloads Offloads) {
	d := openTUN(t, "tw-down", 1, offloads)
	q := d.Queues()[0]
	n, err := q.Write([]Packet{{Head: udpPacket(nearPod, ownAddr, 0)}})
	if n != 1 || writeDropReason(err) != DropDeviceDown {
		t.Errorf("%d packets: %v; want 1 and an error for %v", n, err, DropDeviceDown)
	}
	// A reader survives that the device goes down and up.
	setUp(t, "tw-down")
	link, err := netlink.LinkByName("tw-down")
	if err != nil {
		t.Fatal(err)
	}
	q.SetReadDeadline(time.Now().Add(10 * time.Second))
	read := make(chan error)
	go func() {
		isIPv4 := func(p Packet) bool { return p.Head[0]>>4 == 4 }
		for {
			packets, err := q.Read()
			if err != nil || slices.ContainsFunc(packets, isIPv4) {
				read <- err
				return
			}
		}
	}()
	if err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	overlay := netip.MustParsePrefix("10.5.0.0/16")
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(overlay)}); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Dial("udp4", netip.AddrPortFrom(nearPod, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if _, err := socket.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Errorf("Read returned %v after the device went down and up", err)
	}
}

func TestDeviceDeleted(t *testing.T) { eachMode(t, checkDeviceDeleted) }

func checkDeviceDeleted(t *testing.T, offloads Offloads) {
	d := openTUN(t, "tw-deleted", 2, offloads)
	setUp(t, "tw-deleted")
	q := d.Queues()[1]
	q.SetReadDeadline(time.Now().Add(10 * time.Second))
	read := make(chan error)
	go func() {
		for {
			if _, err := q.Read(); err != nil {
				read <- err
				return
			}
		}
	}()
	deleteLink(t, "tw-deleted")
	if err := <-read; err != unix.EBADFD {
		t.Errorf("Read returned %v, want %v", err, unix.EBADFD)
	}
	// Also once Go's poller has heard of it, which it does by itself within 10 ms.
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
		if _, err := q.Read(); err != unix.EBADFD {
			t.Fatalf("Read returned %v, want %v", err, unix.EBADFD)
		}
	}
	if n, err := q.Write([]Packet{{Head: udpPacket(nearPod, ownAddr, 0)}}); n != 1 || err != unix.EBADFD {
		t.Errorf("%d packets: %v; want 1 and %v", n, err, unix.EBADFD)
	}
}

// A device outlives its process and can be opened with more or fewer queues.
func TestPlainDeviceIsPersistent(t *testing.T) {
	const name = "tw-persistent"
	t.Cleanup(func() { deleteLink(t, name) })
	index := 0
	for i, queues := range []int{1, 4, 2, 3} {
		offloads := Offloads{TSO: i%2 == 1, USO: i%2 == 1}
		d, err := Open(OpenConfig{Name: name, Queues: queues, Offloads: offloads})
		if err != nil {
			t.Fatalf("open with %d queues: %v", queues, err)
		}
		for _, mode := range d.Modes() {
			if mode.On != offloads.TSO {
				t.Errorf("opened with %v: mode %+v", offloads, mode)
			}
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		tuntap := link.(*netlink.Tuntap)
		if tuntap.Queues != queues || tuntap.NonPersist || index != 0 && tuntap.Index != index {
			t.Errorf("device %d with %d queues, persistent %v; want %d, %d, true", tuntap.Index, tuntap.Queues, !tuntap.NonPersist, index, queues)
		}
		index = tuntap.Index
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "tw-bridge"}}
	single := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tw-single"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI}
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tw-tap"}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_MULTI_QUEUE_DEFAULTS}
	for _, link := range []netlink.Link{bridge, single, tap} {
		if err := netlink.LinkAdd(link); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { deleteLink(t, link.Attrs().Name) })
	}
	openTUN(t, "tw-held", 2, AllOffloads)

	for _, tt := range []struct {
		name   string
		device string
		queues int
		want   string
	}{
		{"empty name", "", 1, `name "": want 1 to 15 characters`},
		{"long name", "0123456789abcdef", 1, "want 1 to 15 characters"},
		{"slash", "a/b", 1, "must not"},
		{"template", "twill%d", 1, "must not"},
		{"space", "a b", 1, "must not"},
		{"dots", "..", 1, "must not"},
		{"no queue", "tw-x", 0, "want 1 to 256"},
		{"many queues", "tw-x", 257, "want 1 to 256"},
		{"bridge", "tw-bridge", 1, `not a TUN device (driver "bridge")`},
		{"loopback", "lo", 1, "not a TUN device"},
		{"TAP", "tw-tap", 1, "not a TUN device"},
		{"single queue", "tw-single", 1, "not a multi-queue TUN device"},
		{"held", "tw-held", 1, "another process holds the device (2 queues)"},
	} {
		_, plain := Open(OpenConfig{Name: tt.device, Queues: tt.queues})
		_, offload := Open(OpenConfig{Name: tt.device, Queues: tt.queues, Offloads: AllOffloads})
		for _, err := range []error{plain, offload} {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v; want an error with %q", tt.name, err, tt.want)
			}
		}
	}
}

// The errors of the device node cannot be brought about without touching the machine's own.
func TestExplainOpen(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{unix.ENOENT, "modprobe tun"},
		{unix.ENODEV, "modprobe tun"},
		{unix.EACCES, "mode"},
		{unix.EPERM, "device rules"},
		{os.NewSyscallError("ioctl", unix.EPERM), "CAP_NET_ADMIN"},
		{os.NewSyscallError("ioctl", unix.EBUSY), "held by another process"},
	} {
		err := explainOpen(tt.err)
		if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, want %q", tt.err, err, tt.want)
		}
	}
	if err := explainOpen(unix.ENOENT); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is no fs.ErrNotExist", err)
	}
}

// A child process does not inherit the queues.
func TestQueuesAreCloseOnExec(t *testing.T) { eachMode(t, checkQueuesAreCloseOnExec) }

func checkQueuesAreCloseOnExec(t *testing.T, offloads Offloads) {
	for i, q := range openTUN(t, "tw-exec", 2, offloads).Queues() {
		raw, err := queueFile(q).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		flags := 0
		err = control(raw, func(fd int) (err error) {
			flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			return err
		})
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("queue %d has descriptor flags %#x (%v), want FD_CLOEXEC", i, flags, err)
		}
	}
}

func queueFile(q Queue) *os.File { return q.(*queue).file }

func TestQueueDeadline(t *testing.T) { eachMode(t, checkQueueDeadline) }

func checkQueueDeadline(t *testing.T, offloads Offloads) {
	q := openTUN(t, "tw-deadline", 1, offloads).Queues()[0]
	for _, deadline := range []time.Time{time.Now().Add(20 * time.Millisecond), time.Unix(1, 0)} {
		q.SetReadDeadline(deadline)
		if packets, err := q.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read of an empty queue returned %d packets, %v; want %v", len(packets), err, os.ErrDeadlineExceeded)
		}
	}
}

func TestQueueDoesNotAllocate(t *testing.T) { eachMode(t, checkQueueDoesNotAllocate) }

func checkQueueDoesNotAllocate(t *testing.T, offloads Offloads) {
	d := openTUN(t, "tw-alloc", 1, offloads)
	setUp(t, "tw-alloc")
	q := d.Queues()[0]
	q.SetReadDeadline(time.Now().Add(30 * time.Second))
	write := connectedSocket(t, netip.AddrPortFrom(nearPod, 9))
	in := fill([]Packet{{Head: udpPacket(nearPod, ownAddr, 100)}})
	injected := udpPacket(nearPod, ownAddr, 100)
	checkNoAllocs(t, "read, write and inject", func() error {
		if err := write(10); err != nil {
			return err
		}
		if _, err := q.Read(); err != nil {
			return err
		}
		if _, err := q.Write(in); err != nil {
			return err
		}
		return q.Inject(injected)
	})
}
