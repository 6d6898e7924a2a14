// Package load puts the pods of two hosts to work and measures what comes of it.
//
// The flow: [All] lists the workloads; each measures its [Metric]s once over a
// [Path] that somebody else has set up. tcp.go and udp.go send bulk traffic with
// iperf3 (iperf.go); clean.go seeks the highest rate without loss by it; rtt.go
// exchanges single datagrams, alone or while a bulk flow runs; memory.go asks the
// daemons. Every workload ends by itself after a few times [Options.Seconds].
//
// Rates count payload: Gb/s are 10^9 bits, kpps 1000 datagrams a second.
package load

import (
	"context"

	"twill/bench/report"
	"twill/internal/lab"
)

// Path is what a workload runs over.
type Path struct {
	From, To *lab.Namespace // pods on two hosts
	Daemons  []*lab.Process // that carry the packets; none if the kernel does
}

// Workload is one way to use a path.
type Workload interface {
	// Name identifies it in options and progress.
	Name() string
	// Metrics are what it measures.
	Metrics() []report.Metric
	// Measure runs it once. It leaves out a metric that the path does not have,
	// such as the memory of daemons where there are none.
	Measure(ctx context.Context, p Path) (report.Values, error)
}

// Options are common to all workloads.
type Options struct {
	Seconds    int    // of one bulk or round-trip measurement
	Congestion string // TCP congestion control; it must be in net.ipv4.tcp_available_congestion_control
}

// All are the workloads in the order in which they run.
func All(o Options) []Workload {
	return []Workload{
		tcp{key: "tcp_1", label: "1 stream", name: "tcp-1", streams: 1, Options: o, cost: true},
		tcp{key: "tcp_4", label: "4 streams", name: "tcp-4", streams: 4, Options: o},
		tcp{key: "tcp_reverse", label: "reverse", name: "tcp-reverse", streams: 1, Options: o, reverse: true},
		udp{size: largeDatagram, seconds: o.Seconds},
		udp{size: smallDatagram, seconds: o.Seconds},
		clean{size: largeDatagram},
		clean{size: smallDatagram},
		rtt{Options: o},
		rtt{Options: o, loaded: true},
		memory{},
	}
}

// Payloads of datagrams in bytes: one that fits the MTU of every contender, and
// one about the size of a DNS query or a voice packet.
const (
	largeDatagram = 1400
	smallDatagram = 64
)
