package load

import (
	"time"

	"twill/bench/report"
	"twill/internal/lab"
)

// cpuTime is how long the processors have been at work.
type cpuTime struct {
	daemons    time.Duration
	hasDaemons bool
	machine    time.Duration // everything: daemons, kernel, iperf3 and strangers
}

func costMetrics() []report.Metric {
	return []report.Metric{
		{Key: "cpu_daemons", Label: "CPU of daemons, TCP", Unit: "s/GB", Topic: report.Cost, Better: report.Lower},
		{Key: "cpu_machine", Label: "CPU of machine, TCP", Unit: "s/GB", Topic: report.Cost, Better: report.Lower},
	}
}

func readCPU(p Path) (t cpuTime, err error) {
	for _, d := range p.Daemons {
		u, err := d.Usage()
		if err != nil {
			return t, err
		}
		t.daemons += u.CPU
		t.hasDaemons = true
	}
	t.machine, err = lab.MachineCPU()
	return t, err
}

func (t cpuTime) since(before cpuTime) cpuTime {
	t.daemons -= before.daemons
	t.machine -= before.machine
	return t
}

// costPer adds the seconds for each gigabyte (10^9 bytes) to values.
func (t cpuTime) costPer(gigabytes float64, values report.Values) {
	if t.hasDaemons {
		values["cpu_daemons"] = t.daemons.Seconds() / gigabytes
	}
	values["cpu_machine"] = t.machine.Seconds() / gigabytes
}
