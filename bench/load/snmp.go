package load

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"twill/internal/lab"
)

// datagramsAt returns how many UDP datagrams have reached the sockets of a
// namespace, also those for which a receive buffer had no room.
func datagramsAt(n *lab.Namespace) (count uint64, err error) {
	err = n.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		count, err = datagrams(string(text))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("UDP counters of %s: %w", n.Name, err)
	}
	return count, nil
}

// datagrams reads the sum of InDatagrams and RcvbufErrors, counters of RFC 4113
// and of Linux, from the text of /proc/net/snmp. Each protocol has a line of
// names and one of values.
func datagrams(text string) (count uint64, err error) {
	var names, values []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || fields[0] != "Udp:":
		case names == nil:
			names = fields
		default:
			values = fields
		}
	}
	found := 0
	for i, name := range names {
		if i >= len(values) || name != "InDatagrams" && name != "RcvbufErrors" {
			continue
		}
		n, err := strconv.ParseUint(values[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		count += n
		found++
	}
	if found != 2 {
		return 0, fmt.Errorf("no InDatagrams and RcvbufErrors in %q", text)
	}
	return count, nil
}
