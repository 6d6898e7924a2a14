// Package faults is the fault suite: whatever happens to etcd, no pod loses a
// packet, no two hosts forward one subnet, and every table equals etcd's again
// soon after. It holds tests alone.
//
// The flow of one fault: [world] is a lab with etcd members as processes of
// their own, real daemons, and pods. A steady stream of numbered packets starts;
// the fault is applied, held and lifted; a marker lease is written, and the
// watch of every daemon has to bring it. Meanwhile the referee asks every
// daemon, again and again, which subnet it forwards. The result is a line of the
// table that `make test-faults` prints:
//
//	packets lost      of those sent from before the fault until the end; 0
//	double owners     subnets that two daemons forwarded at one moment; 0
//	time to truth     from the lift until every table equals etcd's content
//
// `go test` applies the few faults that are quick, `go test -all` all of them;
// -hold is how long each lasts.
package faults
