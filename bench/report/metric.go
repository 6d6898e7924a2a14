package report

// Metric is a quantity that a workload measures.
type Metric struct {
	// Key identifies it in the values and in the result file.
	Key   string `json:"key"`
	Label string `json:"label"`
	Unit  string `json:"unit"`
	// Topic is the table and the chart it belongs to.
	Topic Topic `json:"topic"`
	// Better says which way is good, and whether a ratio of two contenders
	// means anything.
	Better Direction `json:"better,omitempty"`
}

// Direction is which values of a metric are the good ones.
type Direction string

const (
	Higher Direction = "higher"
	Lower  Direction = "lower"
	// Neither is for counts that explain another metric.
	Neither Direction = ""
)

// arrow points where good values are.
func (d Direction) arrow() string {
	switch d {
	case Higher:
		return "↑"
	case Lower:
		return "↓"
	}
	return ""
}

// Topic groups metrics.
type Topic string

const (
	Throughput Topic = "tcp"
	Packets    Topic = "udp"
	Latency    Topic = "latency"
	Cost       Topic = "cost"
)

// Topics are all of them in the order of the output.
var Topics = []Topic{Throughput, Packets, Latency, Cost}

// Title is the headline of the topic's table and chart.
func (t Topic) Title() string {
	switch t {
	case Throughput:
		return "TCP throughput"
	case Packets:
		return "UDP packets received"
	case Latency:
		return "Request and response over UDP, one at a time"
	case Cost:
		return "What it costs"
	}
	return string(t)
}

// Values are one round's values by metric key.
type Values map[string]float64
