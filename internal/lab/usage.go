package lab

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a running process has used of the machine so far.
type Usage struct {
	CPU     time.Duration // user and system time of all its threads
	RSS     int64         // resident memory in bytes (VmRSS of proc(5))
	PeakRSS int64         // the most it ever was (VmHWM)
}

// Usage reads what the process has used. A process that has ended is an error.
func (p *Process) Usage() (Usage, error) {
	u, err := UsageOf(p.cmd.Process.Pid)
	if err != nil {
		err = fmt.Errorf("usage of %s: %w", p, err)
	}
	return u, err
}

// UsageOf reads what a child of this process has used. One that has ended is an
// error.
func UsageOf(pid int) (u Usage, err error) {
	if u.CPU, err = cpuTime(pid); err != nil {
		return u, fmt.Errorf("cpu time of process %d: %w", pid, err)
	}
	if err := u.readMemory(pid); err != nil {
		return u, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	return u, nil
}

// cpuTime reads a process's CPU-time clock, which counts nanoseconds where /proc
// counts ticks of 10 ms. Its id is made as clock_getcpuclockid(3) makes it.
func cpuTime(pid int) (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED of the kernel's posix-timers_types.h
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

// readMemory reads the process's status file.
func (u *Usage) readMemory(pid int) error {
	outer, err := outerPID(pid)
	if err != nil {
		return err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", outer))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch key {
		case "VmRSS":
			u.RSS, err = parseKiB(value)
		case "VmHWM":
			u.PeakRSS, err = parseKiB(value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if u.RSS == 0 {
		return fmt.Errorf("process %d has none; has it ended?", pid)
	}
	return lines.Err()
}

// outerPID is the number of a process of the lab in /proc, which is the outer
// one: the kernel tells it of a pidfd.
func outerPID(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer unix.Close(fd)
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		if number, found := strings.CutPrefix(line, "Pid:"); found {
			return strconv.Atoi(strings.TrimSpace(number))
		}
	}
	return 0, fmt.Errorf("the kernel tells no number for process %d", pid)
}

// parseKiB reads a size as in /proc: "1234 kB", in units of 1024 bytes.
func parseKiB(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(s), " kB"), 10, 64)
	return n << 10, err
}
