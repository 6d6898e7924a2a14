// Package daemon is one run of twill: it knows the packet's journey (tunnel),
// the lease's (subnet) and the kernel's state (routes), and joins them.
//
// Run validates, starts in the order of the steps in start.go, tells systemd,
// and then waits for its loops. A start that fails undoes what it did. A stop
// leaves the lease, subnet.env, device, routes and rules in place, for the
// next run; Down removes them.
package daemon
