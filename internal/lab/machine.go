package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// MachineCPU is how long all processors of the machine have been at work since
// it started: everything's time, strangers' too.
func MachineCPU() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseStat(string(stat))
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
