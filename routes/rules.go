package routes

import (
	"net/netip"
	"strconv"
	"strings"
)

// rule holds the arguments of one iptables rule behind the chain's name, in
// the order and spelling in which iptables lists them, so that a wanted rule
// and a listed one are compared as text.
type rule []string

func (r rule) String() string { return strings.Join(r, " ") }

// masqueradeRules give pods the host's address on the way out of the overlay
// and leave traffic inside it as it is. They are Flannel's, in its order;
// network and subnet are masked.
func masqueradeRules(network, subnet netip.Prefix, randomFully bool) []rule {
	n, p := network.String(), subnet.String()
	masquerade := rule{"-j", "MASQUERADE"}
	if randomFully {
		// Without it two pods that connect to one server at one moment can get
		// the same source port and lose a packet.
		masquerade = append(masquerade, "--random-fully")
	}
	return []rule{
		// kube-proxy's mark for packets that it masquerades itself.
		{"-m", "mark", "--mark", "0x4000/0x4000", "-j", "RETURN"},
		{"-s", p, "-d", n, "-j", "RETURN"},
		{"-s", n, "-d", p, "-j", "RETURN"},
		// From outside to a pod of ours, a published port for one: the pod sees
		// who calls.
		{"!", "-s", n, "-d", p, "-j", "RETURN"},
		append(rule{"-s", n, "!", "-d", "224.0.0.0/4"}, masquerade...), // multicast: RFC 5771
		append(rule{"!", "-s", n, "-d", n}, masquerade...),
	}
}

// forwardRules let the overlay's traffic pass where the policy of FORWARD is
// DROP, which Docker sets. What pods send to other hosts' tunnels does not pass:
// masqueraded it would come from this host's endpoint, and whatever it carries be
// taken for this host's.
func forwardRules(network netip.Prefix, port uint16) []rule {
	n := network.String()
	return []rule{
		{"-s", n, "!", "-d", n, "-p", "udp", "-m", "udp", "--dport", strconv.Itoa(int(port)), "-j", "DROP"},
		{"-s", n, "-j", "ACCEPT"},
		{"-d", n, "-j", "ACCEPT"},
	}
}

// span says where in a built-in chain our jump may stand. Indexes count the
// rules of others; a jump at index i stands in front of the i-th of them.
type span struct {
	from, to int // inclusive: a jump here stays where it is
	insert   int // a new jump goes here
}

// postroutingSpan: in table nat the first match decides, and a translation
// that somebody asked for in particular goes before our general one. So a new
// jump goes last, but stays if others append behind it.
func postroutingSpan(others []string) span {
	return span{from: 0, to: len(others), insert: len(others)}
}

// forwardSpan: behind Docker's jump to DOCKER-USER and in front of all its
// other rules. Those may drop what comes from outside to a container, so an
// ACCEPT behind them is too late (Flannel appends its jump). DOCKER-USER is
// the administrator's, who may well refuse some overlay traffic; and Docker
// moves it to the first place whenever it starts, so that insisting on that
// place would be a fight without end. Rules of anybody else may stand in
// front: a second twill and Kubernetes put theirs first too.
func forwardSpan(others []string) span {
	from := 0
	for i, r := range others {
		if target(r) == "DOCKER-USER" {
			from = i + 1
		}
	}
	to := from
	for to < len(others) && !strings.HasPrefix(target(others[to]), "DOCKER") {
		to++
	}
	return span{from: from, to: to, insert: from}
}

// target returns the chain or verdict that a listed rule leads to, "" if none.
func target(r string) string {
	fields := strings.Fields(r)
	for i, f := range fields {
		if (f == "-j" || f == "-g") && i+1 < len(fields) {
			return fields[i+1]
		}
	}
	return ""
}
