package routes

import (
	"os"
	"strings"
	"testing"
)

func TestForwarding(t *testing.T) {
	newNamespace(t)
	noError(t, os.WriteFile(ipForward, []byte("0"), 0))
	if enabled, err := ForwardingEnabled(); err != nil || enabled {
		t.Fatalf("ForwardingEnabled = %t, %v in a new namespace, want false", enabled, err)
	}
	noError(t, EnableForwarding())
	if enabled, err := ForwardingEnabled(); err != nil || !enabled {
		t.Fatalf("ForwardingEnabled = %t, %v after EnableForwarding, want true", enabled, err)
	}

	// Writing 1 again would set this one back to 1.
	const perInterface = "/proc/sys/net/ipv4/conf/lo/forwarding"
	noError(t, os.WriteFile(perInterface, []byte("0"), 0))
	noError(t, EnableForwarding())
	value, err := os.ReadFile(perInterface)
	noError(t, err)
	if strings.TrimSpace(string(value)) != "0" {
		t.Error("EnableForwarding wrote although forwarding was enabled")
	}
}
