package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"twill/subnet"
)

// bridge is the name Docker gives its default bridge.
const bridge = "docker0"

// Attach makes what a container runtime makes once the host has a subnet: the
// bridge with the first address of the daemon's subnet.env, and one pod.
func (h *Host) Attach() (pod *Namespace, err error) {
	env, err := subnet.ReadEnv(h.EnvFile())
	if err != nil {
		return nil, fmt.Errorf("attach pods to %s: %w", h.Name, err)
	}
	if err := h.AddBridge(env.Subnet, env.MTU); err != nil {
		return nil, err
	}
	return h.AddPod()
}

// AddBridge makes the host's pod bridge. gateway is its address with the length
// of the host's subnet; pods get the MTU too.
func (h *Host) AddBridge(gateway netip.Prefix, mtu int) error {
	// A bridge without an address of its own takes its ports' lowest, and another
	// when a port goes: its pods would lose their gateway for a while.
	hardware := append(net.HardwareAddr{0x02, 0x42}, gateway.Addr().AsSlice()...) // as Docker does
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge, MTU: mtu, HardwareAddr: hardware}}
	if err := h.link.LinkAdd(br); err != nil {
		return fmt.Errorf("add %s to %s: %w", bridge, h.Name, err)
	}
	if err := h.addAddr(bridge, gateway); err != nil {
		return err
	}
	h.gateway, h.podMTU = gateway, mtu
	return h.setUp(bridge)
}

// Gateway is the bridge's address with the length of the host's subnet; not
// valid before AddBridge.
func (h *Host) Gateway() netip.Prefix { return h.gateway }

// RemoveBridge removes the bridge and all pods, so that another subnet can be
// attached.
func (h *Host) RemoveBridge() error {
	for _, p := range h.Pods {
		p.close()
	}
	h.Pods = nil
	br, err := h.find(bridge)
	if err != nil {
		return err
	}
	if err := h.link.LinkDel(br); err != nil {
		return fmt.Errorf("remove %s of %s: %w", bridge, h.Name, err)
	}
	h.gateway = netip.Prefix{}
	return nil
}

// AddPod makes a namespace with the next address of the host's subnet and a
// default route by the bridge.
func (h *Host) AddPod() (*Namespace, error) {
	if !h.gateway.IsValid() {
		return nil, errors.New("lab: AddPod before AddBridge on " + h.Name)
	}
	number := len(h.Pods) + 1
	pod, err := newNamespace(fmt.Sprintf("%s-pod%d", h.Name, number))
	if err != nil {
		return nil, err
	}
	pod.addr = nth(h.gateway, number+1)
	if err := h.connect(pod, podPort(number)); err != nil {
		pod.close()
		return nil, err
	}
	h.Pods = append(h.Pods, pod)
	return pod, nil
}

// podPort is the bridge's port to a pod, counted from 1.
func podPort(number int) string { return fmt.Sprintf("pod%d", number) }

// AsHost makes a host of a pod: a daemon on it has the pods' network for its
// underlay. The lab ends its processes.
func (h *Host) AsHost(pod *Namespace) (*Host, error) {
	nested := &Host{Namespace: pod, lab: h.lab, number: h.number}
	if err := os.MkdirAll(nested.Dir(), 0o755); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	h.lab.nested = append(h.lab.nested, nested)
	return nested, pod.Sysctl("net/ipv4/ip_forward", "1")
}

// connect makes the cable between a pod and the host's bridge.
func (h *Host) connect(pod *Namespace, port string) error {
	br, err := h.find(bridge)
	if err != nil {
		return err
	}
	cable := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: port, MTU: h.podMTU, MasterIndex: br.Attrs().Index},
		PeerName:      uplink,
		PeerMTU:       uint32(h.podMTU),
		PeerNamespace: netlink.NsFd(pod.FD()),
	}
	if err := h.link.LinkAdd(cable); err != nil {
		return fmt.Errorf("connect %s to %s: %w", pod.Name, bridge, err)
	}
	if err := h.setUp(port); err != nil {
		return err
	}
	if err := pod.setUp(uplink); err != nil {
		return err
	}
	if err := pod.addAddr(uplink, netip.PrefixFrom(pod.addr, h.gateway.Bits())); err != nil {
		return err
	}
	if err := pod.AddRoute(defaultRoute, h.gateway.Addr()); err != nil {
		return err
	}
	if err := pod.waitUp(uplink); err != nil {
		return err
	}
	return h.waitUp(port, bridge)
}
