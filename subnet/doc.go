// Package subnet is the lease's journey: etcd → leases → table.
//
// Every host holds one lease: a key <prefix>/subnets/10.5.52.0-24 whose value
// names the host's endpoint. The package reads and validates the network
// config (Config), keeps this host's lease (Manager.Acquire, then the keep
// half of Manager.Run), follows the leases of all others (the watch half) and
// publishes each change as a whole new View. Keys and values are Flannel's;
// twill's own fields live in a value's BackendData, where Flannel does not
// look.
//
// One goroutine, the caller of Manager.Run, owns all mutable state. Readers
// get immutable Views. Every write to etcd is a transaction that compares, and
// every RPC carries a deadline.
package subnet
