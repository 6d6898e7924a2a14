package routes

import (
	"fmt"
	"net/netip"
)

// Bridge is an interface that a container runtime may have made for its containers.
type Bridge struct {
	Name    string
	Address netip.Prefix // its IPv4 address with the length of its subnet
}

// Bridges returns the bridges of this host that have an IPv4 address, once for each address.
func Bridges() ([]Bridge, error) {
	all, err := interfaces()
	if err != nil {
		return nil, fmt.Errorf("look for bridges: %w", err)
	}
	var bridges []Bridge
	for _, h := range all {
		if !h.isBridge {
			continue
		}
		for _, a := range h.addrs {
			bridges = append(bridges, Bridge{Name: h.name, Address: a})
		}
	}
	return bridges, nil
}

// BridgeOf returns the name of the bridge that has an address in subnet, "" where
// there is none.
func BridgeOf(subnet netip.Prefix) (string, error) {
	bridges, err := Bridges()
	if err != nil {
		return "", err
	}
	for _, b := range bridges {
		if subnet.Contains(b.Address.Addr()) {
			return b.Name, nil
		}
	}
	return "", nil
}
