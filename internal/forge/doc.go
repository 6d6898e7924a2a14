// Package forge makes hostile packets and tells what has to become of each. It
// is for tests of a running daemon: nothing in it is shared with the packet path.
//
// The flow: a [Generator] makes inner packets, whole and damaged, from a seed
// (inner.go), and wraps them in datagrams that come from anybody (outer.go).
// A [Wire] sends the frames and records what passes a device (wire.go,
// segments.go). [Rules], the slow and obvious twin of the daemon's checks, tells
// the [Fate] of each (rules.go); a [Ledger] compares it with what was seen
// (ledger.go).
//
// Lengths are in bytes. Slices that a function returns are the caller's.
package forge
