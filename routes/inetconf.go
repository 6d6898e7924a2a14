package routes

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// devconfAcceptLocal is IPV4_DEVCONF_ACCEPT_LOCAL (linux/ip.h).
	devconfAcceptLocal = 23
	// iflaInetConf is IFLA_INET_CONF (linux/if_link.h).
	iflaInetConf = 1
	// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
	addrGenModeNone = 1
)

// applyInetConf sets the device's per-protocol switches by netlink: the same as
// net.ipv4.conf.NAME.accept_local=1 and net.ipv6.conf.NAME.addr_gen_mode=1, but
// without a writable /proc/sys, which a hardened service does not have.
//
// accept_local: the tunnel's ICMP errors come in by the device with the
// device's own address as their source, which the kernel otherwise drops as a
// martian, unseen. addr_gen_mode: without a link-local address the kernel has
// no reason to send router solicitations into a tunnel that is IPv4 only.
func (l Link) applyInetConf(link netlink.Link) error {
	if err := setAcceptLocal(link); err != nil {
		return fmt.Errorf("device %s: set accept_local: %w", l.Name, err)
	}
	err := netlink.LinkSetIP6AddrGenMode(link, addrGenModeNone)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("device %s: set addr_gen_mode: %w", l.Name, err)
	}
	return nil
}

// setAcceptLocal sends IFLA_AF_SPEC { AF_INET { IFLA_INET_CONF { n: u32 } } }.
func setAcceptLocal(link netlink.Link) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	req.AddData(msg)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	inet := spec.AddRtAttr(unix.AF_INET, nil)
	conf := inet.AddRtAttr(iflaInetConf, nil)
	conf.AddRtAttr(devconfAcceptLocal, nl.Uint32Attr(1))
	req.AddData(spec)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
