package tunnel

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// writeProbe writes the probe of a protocol to a device, after edit.
func writeProbe(t *testing.T, d Device, protocol byte, edit func(header []byte)) error {
	t.Helper()
	raw, err := d.Queues()[0].SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	iovecs := probeIovecs(protocol)
	edit(unsafe.Slice(iovecs[0].Base, vnetHeaderLen))
	return control(raw, func(fd int) error { return writev(uintptr(fd), iovecs) })
}

// The kernel judges the header of a probe whether the link is up or not, and drops the packet.
func TestProbeIsJudgedAndDropped(t *testing.T) {
	d := openTUN(t, "tw-probe", 1, AllOffloads)
	for _, state := range []struct {
		name     string
		accepted error
	}{{"down", unix.EIO}, {"up", nil}} {
		if state.name == "up" {
			setUp(t, "tw-probe")
		}
		for _, protocol := range []byte{protocolTCP, protocolUDP} {
			before := csumErrors(t)
			if err := writeProbe(t, d, protocol, func([]byte) {}); err != state.accepted {
				t.Errorf("link %s, protocol %d: %v, want %v", state.name, protocol, err, state.accepted)
			}
			if dropped := csumErrors(t) - before; state.name == "up" && dropped != 1 {
				t.Errorf("link up, protocol %d: %d packets dropped for their IP checksum, want 1", protocol, dropped)
			}
			unknown := func(header []byte) { header[1] = 0x7f } // gso_type
			if err := writeProbe(t, d, protocol, unknown); err != unix.EINVAL {
				t.Errorf("link %s, protocol %d, unknown kind of super-packet: %v, want %v", state.name, protocol, err, unix.EINVAL)
			}
		}
	}
}

// csumErrors returns how many packets the namespace has dropped for their IP checksum.
func csumErrors(t *testing.T) (n int) {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.Split(string(data), "\n"), func(line string) bool { return !strings.HasPrefix(line, "IpExt:") })
	names, values := strings.Fields(lines[0]), strings.Fields(lines[1])
	n, err = strconv.Atoi(values[slices.Index(names, "InCsumErrors")])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Open probes each queue: before the link is up the kernel counts what it drops.
func TestOpenProbes(t *testing.T) {
	openTUN(t, "tw-probed", 2, AllOffloads)
	link, err := netlink.LinkByName("tw-probed")
	if err != nil {
		t.Fatal(err)
	}
	if dropped := link.Attrs().Statistics.RxDropped; dropped != 4 {
		t.Errorf("%d packets dropped, want a probe of TCP and of UDP for each of 2 queues", dropped)
	}
}

// A kernel that refuses super-packets of one protocol has that offload off from the start, and goes on with the other.
func TestProbeRefused(t *testing.T) {
	for _, tt := range []struct {
		refused string
		gsoType byte
		err     error
	}{
		{"tso", unix.VIRTIO_NET_HDR_GSO_TCPV4, unix.EINVAL},
		{"uso", unix.VIRTIO_NET_HDR_GSO_UDP_L4, unix.EINVAL},
		{"", unix.VIRTIO_NET_HDR_GSO_UDP_L4, unix.ENOMEM}, // says nothing about the offload
	} {
		t.Run(tt.refused+" "+tt.err.Error(), func(t *testing.T) {
			t.Cleanup(func() { deleteLink(t, "tw-refusing") })
			d := newOffloadDevice(OpenConfig{Name: "tw-refusing", Queues: 1, Offloads: AllOffloads})
			d.writev = func(fd uintptr, iovecs []unix.Iovec) error {
				if unsafe.Slice(iovecs[0].Base, vnetHeaderLen)[1] == tt.gsoType {
					return tt.err
				}
				return writev(fd, iovecs)
			}
			q, err := d.openQueue()
			if err != nil {
				t.Fatal(err)
			}
			d.queues = append(d.queues, q)
			defer d.Close()
			for _, m := range d.Modes() {
				want := Mode{Offload: m.Offload, On: true}
				if m.Offload == tt.refused {
					want = Mode{Offload: m.Offload, Why: probeWhy(tt.err)}
				}
				if m != want {
					t.Errorf("%+v, want %+v", m, want)
				}
			}
		})
	}
}
