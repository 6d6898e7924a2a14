// Package routes keeps the host's kernel state that the overlay needs, and
// nothing of the host's own.
//
// In the order in which a starting daemon uses it:
//
//	FindUnderlay      which interface and address carry the tunnel's UDP
//	Overlaps          would the overlay's network hide a network of the host
//	ForwardingEnabled may the kernel pass packets on between pods and tunnel
//	Link.Apply        address, MTU and the one route of the TUN device
//	Firewall.Apply    masquerade and forward rules, watched by Firewall.Run
//
// Everything converges: what is wanted is compared with what the kernel has,
// only the difference is written, and a second call changes nothing. Routes,
// addresses and rules of others are never touched; one that is in the way is
// an error that names it.
//
// All calls act on the network namespace of the calling thread and see IPv4
// only. Prefixes may be given with host bits set; they are masked before use.
// MTUs are in bytes and count from the IP header on.
package routes
