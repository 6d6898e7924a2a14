package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// UDPCounters are the namespace's counters of UDP by their names in
// /proc/net/snmp: those of RFC 4113, and Linux's own, such as RcvbufErrors.
func (n *Namespace) UDPCounters() (counters map[string]uint64, err error) {
	err = n.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		counters, err = parseUDPCounters(string(text))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("UDP counters of %s: %w", n.Name, err)
	}
	return counters, nil
}

// parseUDPCounters reads the text of /proc/net/snmp, where each protocol has a
// line of names and one of values.
func parseUDPCounters(text string) (map[string]uint64, error) {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || fields[0] != "Udp:":
		case names == nil:
			names = fields
		case len(fields) != len(names):
			return nil, fmt.Errorf("%d values for %d names in %q", len(fields), len(names), text)
		default:
			counters := make(map[string]uint64, len(names)-1)
			for i, name := range names[1:] {
				value, err := strconv.ParseUint(fields[i+1], 10, 64)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				counters[name] = value
			}
			return counters, nil
		}
	}
	return nil, fmt.Errorf("no counters of UDP in %q", text)
}
