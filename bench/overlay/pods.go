package overlay

import (
	"fmt"
	"net"
	"net/netip"

	"twill/internal/lab"
)

const (
	// network is the address range of all pods; each host has a /24 of it.
	network = "10.5.0.0/16"

	// underlayMTU is the MTU of the lab's links, in bytes.
	underlayMTU = 1500
)

// subnet is the subnet of host i (0 or 1) where no daemon allocates one.
func subnet(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(i + 1), 0}), 24)
}

// addPods gives each host a bridge in its subnet and a pod.
func addPods(l *lab.Lab, mtu int) (*Network, error) {
	n := &Network{MTU: mtu}
	for i, h := range l.Hosts {
		gateway := netip.PrefixFrom(subnet(i).Addr().Next(), subnet(i).Bits())
		if err := h.AddBridge(gateway, mtu); err != nil {
			return nil, err
		}
		pod, err := h.AddPod()
		if err != nil {
			return nil, err
		}
		n.Pods[i] = pod
	}
	return n, nil
}

// attachPods gives each host the bridge and pod that its daemon's subnet.env
// asks for.
func attachPods(l *lab.Lab, n *Network) error {
	for i, h := range l.Hosts {
		pod, err := h.Attach()
		if err != nil {
			return err
		}
		n.Pods[i] = pod
	}
	pod, err := n.Pods[0].Link().LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("mtu of %s: %w", n.Pods[0].Name, err)
	}
	n.MTU = pod.Attrs().MTU
	return nil
}

// ipNet is a prefix as netlink takes it.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
