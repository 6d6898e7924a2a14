// Package metrics tells Prometheus of the daemon. Most series are made at each scrape from one Snapshot of what the daemon counts
// anyway; what has to be observed when it happens, round-trip times, losses and RPCs to etcd, comes by the methods of Metrics.
// Neither is on the packets' way.
//
// Names follow https://prometheus.io/docs/practices/naming: the prefix twill_, base units, _total for counters. docs/metrics.md
// lists all of them; a test compares it with what a daemon exposes.
package metrics
