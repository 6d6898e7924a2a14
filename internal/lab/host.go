package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

// uplink is a host's or a pod's only Ethernet device.
const uplink = "eth0"

// Host is a namespace that stands for a machine: an uplink to the switch, a
// default route by it, forwarding on, and directories for a daemon.
type Host struct {
	*Namespace
	Pods []*Namespace

	lab     *Lab
	number  int // from 1
	port    string
	gateway netip.Prefix // the bridge's address; zero before AddBridge
	podMTU  int
	procs   []*Process
	stores  []*fdStore
}

// addHost makes host i and connects it to the switch.
func (l *Lab) addHost(i int) (_ *Host, err error) {
	ns, err := newNamespace(fmt.Sprintf("host%d", i))
	if err != nil {
		return nil, err
	}
	ns.addr = nth(l.underlay, i)
	h := &Host{Namespace: ns, lab: l, number: i, port: fmt.Sprintf("lab%dhost%d", l.number, i)}
	defer func() {
		if err != nil {
			h.close()
		}
	}()

	if err := os.MkdirAll(h.Dir(), 0o755); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := h.plugIn(); err != nil {
		return nil, err
	}
	if err := h.addAddr(uplink, netip.PrefixFrom(h.addr, l.underlay.Bits())); err != nil {
		return nil, err
	}
	if err := h.AddDefaultRoute(); err != nil {
		return nil, err
	}
	return h, h.Sysctl("net/ipv4/ip_forward", "1")
}

// plugIn makes the cable between the host and a port of the switch.
func (h *Host) plugIn() error {
	sw, err := h.lab.link.LinkByName(h.lab.bridge)
	if err != nil {
		return fmt.Errorf("find switch %s: %w", h.lab.bridge, err)
	}
	cable := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: h.port, MTU: underlayMTU, MasterIndex: sw.Attrs().Index},
		PeerName:      uplink,
		PeerMTU:       underlayMTU,
		PeerNamespace: netlink.NsFd(h.FD()),
	}
	if err := h.lab.link.LinkAdd(cable); err != nil {
		return fmt.Errorf("connect %s to switch %s: %w", h.Name, h.lab.bridge, err)
	}
	if err := h.lab.link.LinkSetUp(cable); err != nil {
		return fmt.Errorf("set port of %s up: %w", h.Name, err)
	}
	return h.setUp(uplink)
}

// Dir holds the host's files; nothing else writes there.
func (h *Host) Dir() string { return filepath.Join(h.lab.dir, h.Name) }

// RunDir, StateDir and EnvFile are where StartDaemon lets the daemon put things.
func (h *Host) RunDir() string   { return filepath.Join(h.Dir(), "run") }
func (h *Host) StateDir() string { return filepath.Join(h.Dir(), "state") }
func (h *Host) EnvFile() string  { return filepath.Join(h.RunDir(), "subnet.env") }

// close removes the host's namespace and those of its pods.
func (h *Host) close() {
	for _, p := range h.Pods {
		p.close()
	}
	h.Pods = nil
	// Its processes are gone, but the kernel takes its time to remove the
	// namespace: the port must be gone at once for the next lab.
	if port, err := h.lab.link.LinkByName(h.port); err == nil {
		h.lab.link.LinkDel(port)
	}
	h.Namespace.close()
}
