package routes

import (
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestInetConf(t *testing.T) {
	newNamespace(t)
	openTUN(t, testLink.Name) // attached: without a carrier the kernel makes no link-local address anyway
	link, err := netlink.LinkByName(testLink.Name)
	noError(t, err)
	for range 2 {
		noError(t, testLink.Apply())
		value, err := os.ReadFile("/proc/sys/net/ipv4/conf/twill0/accept_local")
		noError(t, err)
		if strings.TrimSpace(string(value)) != "1" {
			t.Errorf("accept_local is %q, want 1", value)
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
		noError(t, err)
		if len(addrs) > 0 {
			t.Errorf("IPv6 addresses %v, want none", addrs)
		}
	}
}
