package load

import (
	"fmt"

	"twill/internal/lab"
)

// datagramsAt returns how many UDP datagrams have reached the sockets of a
// namespace, also those for which a receive buffer had no room.
func datagramsAt(n *lab.Namespace) (count uint64, err error) {
	counters, err := n.UDPCounters()
	if err != nil {
		return 0, err
	}
	return datagrams(counters)
}

func datagrams(counters map[string]uint64) (count uint64, err error) {
	for _, name := range []string{"InDatagrams", "RcvbufErrors"} {
		n, found := counters[name]
		if !found {
			return 0, fmt.Errorf("no %s in %v", name, counters)
		}
		count += n
	}
	return count, nil
}
