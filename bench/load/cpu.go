package load

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"twill/bench/report"
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
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t, err
	}
	t.machine, err = parseStat(string(stat))
	return t, err
}

// parseStat adds up the first line of proc(5)'s stat without idle, iowait, and
// the guest times, which user and nice contain already.
func parseStat(text string) (time.Duration, error) {
	const (
		tick          = 10 * time.Millisecond // USER_HZ is 100 everywhere
		idle, ioWait  = 3, 4
		counted       = 8 // user nice system idle iowait irq softirq steal
		name, columns = "cpu", 1 + counted
	)
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < columns || fields[0] != name {
		return 0, fmt.Errorf("/proc/stat begins with %q, want cpu and at least %d numbers", line, counted)
	}
	var busy time.Duration
	for i, f := range fields[1:columns] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i != idle && i != ioWait {
			busy += time.Duration(n) * tick
		}
	}
	return busy, nil
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
