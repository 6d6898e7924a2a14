package routes

import (
	"testing"

	"github.com/vishvananda/netlink"
)

func TestDeleteDevice(t *testing.T) {
	newNamespace(t)
	addTUN(t, "twill0", netlink.TUNTAP_MODE_TUN)
	addTUN(t, "tap0", netlink.TUNTAP_MODE_TAP)
	addBridge(t, "eth0")

	noError(t, DeleteDevice("twill0"))
	if _, err := netlink.LinkByName("twill0"); err == nil {
		t.Error("twill0 is still there")
	}
	noError(t, DeleteDevice("twill0")) // absent is fine

	for name, word := range map[string]string{"eth0": "bridge", "tap0": "ether", "lo": "loopback"} {
		wantError(t, DeleteDevice(name), name, "not a TUN device", word)
		if _, err := netlink.LinkByName(name); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}

func TestDeviceNames(t *testing.T) {
	newNamespace(t)
	for _, name := range []string{"", "sixteen-bytes-xx", "a/b", "a b", "a:b", ".", ".."} {
		wantError(t, DeleteDevice(name), "device name", "1 to 15 bytes")
	}
	noError(t, DeleteDevice("fifteen-bytes-x"))
}
