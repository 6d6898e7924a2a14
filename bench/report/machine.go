package report

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what the values were measured on.
type Machine struct {
	CPU       string  `json:"cpu"`
	Cores     int     `json:"cores"`
	MemoryGB  float64 `json:"memory_gb"`
	System    string  `json:"system"`
	Kernel    string  `json:"kernel"`
	Go        string  `json:"go"`
	Iperf     string  `json:"iperf3"`
	LoadStart float64 `json:"load_average_at_start"` // of one minute; above 0.5, others were at work
}

// ThisMachine describes the machine; what it cannot find out stays empty.
func ThisMachine() Machine {
	m := Machine{
		CPU:    field("/proc/cpuinfo", "model name", ":"),
		Cores:  runtime.NumCPU(),
		System: strings.Trim(field("/etc/os-release", "PRETTY_NAME", "="), `"`),
		Go:     runtime.Version(),
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.MemoryGB = float64(info.Totalram) * float64(info.Unit) / 1e9
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if out, err := exec.Command("iperf3", "--version").Output(); err == nil {
		m.Iperf, _, _ = strings.Cut(string(out), " (")
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.LoadStart, _ = strconv.ParseFloat(strings.Fields(string(load))[0], 64)
	}
	return m
}

// field is the first value of a key in a file of lines "key<separator>value".
func field(path, key, separator string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		k, v, found := strings.Cut(line, separator)
		if found && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %.0f GB; %s, kernel %s; %s, %s; load average at start %.2f",
		m.CPU, m.Cores, m.MemoryGB, m.System, m.Kernel, m.Go, m.Iperf, m.LoadStart)
}
