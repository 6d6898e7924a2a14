package routes

import (
	"fmt"
	"os"
	"strings"
)

// ipForward is net.ipv4.ip_forward of the caller's network namespace.
const ipForward = "/proc/sys/net/ipv4/ip_forward"

// ForwardingEnabled reports whether the kernel forwards IPv4 packets between
// interfaces. Without it no packet gets from a pod to the tunnel.
func ForwardingEnabled() (bool, error) {
	value, err := os.ReadFile(ipForward)
	if err != nil {
		return false, fmt.Errorf("net.ipv4.ip_forward: %w", err)
	}
	return strings.TrimSpace(string(value)) == "1", nil
}

// EnableForwarding sets net.ipv4.ip_forward to 1 until the next boot. It does
// not write if it is set already: inside a container /proc/sys is read-only.
func EnableForwarding() error {
	enabled, err := ForwardingEnabled()
	if err != nil || enabled {
		return err
	}
	return writeForwarding("1")
}

// DisableForwarding takes EnableForwarding back.
func DisableForwarding() error { return writeForwarding("0") }

func writeForwarding(value string) error {
	if err := os.WriteFile(ipForward, []byte(value+"\n"), 0o644); err != nil {
		return fmt.Errorf("net.ipv4.ip_forward: set to %s: %w", value, err)
	}
	return nil
}
