package faults

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"twill/internal/lab"
)

// filter is an nftables table on a member's host, for what is to happen to the
// packets between the daemons and etcd.
const filter = "fault"

// between is a rule's match: packets of the daemons' hosts to etcd's client port,
// or back. The operator's own pass.
func between(daemons []*lab.Host, direction string) string {
	var addrs []string
	for _, h := range daemons {
		addrs = append(addrs, h.Addr().String())
	}
	set := "{ " + strings.Join(addrs, ", ") + " }"
	if direction == "in" {
		return fmt.Sprintf("ip saddr %s tcp dport %d", set, clientPort)
	}
	return fmt.Sprintf("ip daddr %s tcp sport %d", set, clientPort)
}

// The verdicts of filterPackets.
const (
	dropSilently = "drop"
	refuse       = "reject with tcp reset"
	loseHalf     = "numgen random mod 2 == 0 drop"
)

// filterPackets puts verdict on the packets between daemons and the host of a
// member, in both directions.
func filterPackets(on *lab.Host, daemons []*lab.Host, verdict string) error {
	back := verdict
	if verdict == refuse { // one who is refused gets no answers anyhow
		back = "accept"
	}
	return nft(on, fmt.Sprintf(`table inet %s {
		chain in { type filter hook input priority 0; %s %s; }
		chain out { type filter hook output priority 0; %s %s; }
	}`, filter, between(daemons, "in"), verdict, between(daemons, "out"), back))
}

// dropPeers cuts a member off from the other members.
func dropPeers(on *lab.Host) error {
	return nft(on, fmt.Sprintf(`table inet %s {
		chain in { type filter hook input priority 0; tcp dport %d drop; tcp sport %[2]d drop; }
	}`, filter, peerPort))
}

// freeze drops what a daemon's host and etcd say to each other, once limit bytes
// have passed in the direction of that hook (input, output).
func freeze(on *lab.Host, direction string, limit int) error {
	port := "dport"
	if direction == "input" {
		port = "sport"
	}
	return nft(on, fmt.Sprintf(`table inet %s {
		counter dropped { }
		chain frozen { type filter hook %s priority 0; tcp %s %d quota over %d bytes counter name dropped drop; }
	}`, filter, direction, port, clientPort, limit))
}

// dropped is how many packets freeze has dropped.
func dropped(on *lab.Host) (packets int, err error) {
	err = on.Do(func() error {
		out, err := exec.Command("nft", "list", "counter", "inet", filter, "dropped").Output()
		if err != nil {
			return fmt.Errorf("nft list counter on %s: %w", on.Name, err)
		}
		_, counted, _ := strings.Cut(string(out), "packets ")
		_, err = fmt.Sscan(counted, &packets)
		return err
	})
	return packets, err
}

func removeFilter(on *lab.Host) error { return nft(on, "delete table inet "+filter) }

func nft(on *lab.Host, rules string) error {
	return on.Do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft on %s (Debian package nftables): %w: %s", on.Name, err, out)
		}
		return nil
	})
}

// anywhere is an endpoint at which nobody listens, outside of every lab (RFC 5737
// TEST-NET-1).
func anywhere(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.250"), port)
}
