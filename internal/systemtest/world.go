package systemtest

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twill/internal/lab"
)

// Enter moves the program into namespaces of its own as lab.Enter does, with a /proc of their own, which systemd-nspawn needs.
func Enter() (entered bool, exitCode int, err error) {
	entered, exitCode, err = lab.Enter()
	if !entered || err != nil {
		return entered, exitCode, err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return true, 1, fmt.Errorf("mount a /proc of our own: %w", err)
	}
	return true, 0, nil
}

// bridge is the switch that joins the machines; its address is the test's own, and their gateway.
const bridge = "switch"

var underlay = netip.MustParsePrefix("198.18.0.0/24") // RFC 2544

// Gateway is the test's own address.
var Gateway = netip.MustParseAddr("198.18.0.254")

// World is a switch and the machines on it.
type World struct {
	prepared Prepared
	dir      string // in memory
	machines []*Machine
}

// NewWorld makes the switch. The program must have been through [Enter].
func NewWorld(p Prepared) (*World, error) {
	w := &World{prepared: p, dir: "/run/machines"}
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return nil, err
	}
	// Not /run itself, which is nosuid and nodev.
	if err := unix.Mount("tmpfs", w.dir, "tmpfs", 0, "mode=0755"); err != nil {
		return nil, fmt.Errorf("mount the machines' memory: %w", err)
	}
	// As udev makes it, whatever the mode of this machine's own is.
	if err := unix.Mknod(w.tunNode(), unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		return nil, fmt.Errorf("make a node of the TUN driver: %w", err)
	}
	if err := os.Chmod(w.tunNode(), 0o666); err != nil { // whatever the umask is
		return nil, err
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	if err := netlink.LinkAdd(br); err != nil {
		return nil, fmt.Errorf("add switch: %w", err)
	}
	address := &netlink.Addr{IPNet: netlink.NewIPNet(Gateway.AsSlice())}
	address.Mask = []byte{255, 255, 255, 0}
	if err := netlink.AddrAdd(br, address); err != nil {
		return nil, fmt.Errorf("add %s to the switch: %w", Gateway, err)
	}
	if err := netlink.LinkSetUp(br); err != nil {
		return nil, fmt.Errorf("set the switch up: %w", err)
	}
	return w, nil
}

func (w *World) tunNode() string { return filepath.Join(w.dir, "tun") }

// Close ends all machines at once, as a power failure would.
func (w *World) Close() {
	for _, m := range w.machines {
		m.kill()
	}
}

// Add makes machine number i, 1 to 99, which is not running yet.
func (w *World) Add(i int) (*Machine, error) {
	m := &Machine{
		Name: fmt.Sprintf("machine%d", i),
		Addr: netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}),
		tun:  w.tunNode(),
		run:  w.prepared.Run,
	}
	m.dir = filepath.Join(w.dir, m.Name)
	if err := m.unpack(w.prepared); err != nil {
		return nil, fmt.Errorf("make %s: %w", m.Name, err)
	}
	w.machines = append(w.machines, m)
	return m, nil
}
