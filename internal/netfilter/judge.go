// Package netfilter says what a host's firewall does to a packet, as far as that
// can be told from its rules. It changes nothing.
//
// The rules are those that `iptables -S` lists. A match that is not known here
// (of ipset, owner, time and others) is not guessed: the rule counts as one that
// does not match, and is named, so that the reader knows what was left out.
package netfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Packet is the first one of a connection, unless it says otherwise. What is
// zero is not known, and no rule that asks for it matches.
type Packet struct {
	In, Out     string // interfaces
	Src, Dst    netip.Addr
	Protocol    string // udp, tcp, icmp
	DstPort     uint16
	Established bool // packets of the connection have passed in both directions
}

// state is the packet's, as iptables-extensions(8) calls it.
func (p Packet) state() string {
	if p.Established {
		return "ESTABLISHED"
	}
	return "NEW"
}

// A Verdict is what a chain does to a packet.
type Verdict struct {
	Accept bool
	By     string   // the rule or policy that decided
	Unsure []string // rules that came before and could not be judged
}

// A Ruleset is one table as iptables -S lists it.
type Ruleset struct {
	policies map[string]string
	chains   map[string][]string
}

// Parse reads what `iptables -S` prints.
func Parse(listing string) Ruleset {
	r := Ruleset{policies: map[string]string{}, chains: map[string][]string{}}
	for line := range strings.Lines(listing) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 3 && f[0] == "-P":
			r.policies[f[1]] = f[2]
		case len(f) >= 2 && f[0] == "-A":
			r.chains[f[1]] = append(r.chains[f[1]], strings.TrimSpace(line))
		}
	}
	return r
}

// Policy is that of a built-in chain; "" where there is none, which accepts.
func (r Ruleset) Policy(chain string) string { return r.policies[chain] }

// maxDepth bounds jumps from chain to chain; the kernel allows no loops.
const maxDepth = 32

// Judge says what a built-in chain does to p.
func (r Ruleset) Judge(chain string, p Packet) Verdict {
	var v Verdict
	if r.walk(chain, p, &v, 0) {
		return v
	}
	policy := r.Policy(chain)
	v.Accept = policy != "DROP"
	v.By = fmt.Sprintf("-P %s %s", chain, policy)
	return v
}

// walk follows a chain and returns true once a rule has decided.
func (r Ruleset) walk(chain string, p Packet, v *Verdict, depth int) bool {
	if depth > maxDepth {
		return false
	}
	for _, line := range r.chains[chain] {
		rule := parseRule(line)
		matches, known := rule.matches(p)
		if !known {
			v.Unsure = append(v.Unsure, line)
			continue
		}
		if !matches {
			continue
		}
		switch rule.target {
		case "ACCEPT":
			v.Accept, v.By = true, line
			return true
		case "DROP", "REJECT":
			v.Accept, v.By = false, line
			return true
		case "RETURN":
			return false
		}
		if _, ok := r.chains[rule.target]; !ok {
			continue // LOG, MARK, an empty chain: the packet goes on
		}
		if decided := r.walk(rule.target, p, v, depth+1); decided || rule.isGoto {
			return decided
		}
	}
	return false
}

// rule is one line's matches, each a function of the packet, and its target.
type rule struct {
	tests  []func(Packet) bool
	known  bool
	target string
	isGoto bool
}

func (r rule) matches(p Packet) (matches, known bool) {
	for _, test := range r.tests {
		if !test(p) {
			return false, true // whatever the others are
		}
	}
	return true, r.known
}

// parseRule reads one -A line.
func parseRule(line string) rule {
	r := rule{known: true}
	args := fields(line)
	negate := false
	for i := 2; i < len(args); i++ {
		option := args[i]
		value := ""
		if i+1 < len(args) {
			value = args[i+1]
		}
		var test func(Packet) bool
		switch option {
		case "!":
			negate = true
			continue
		case "-j", "-g":
			r.target, r.isGoto = value, option == "-g"
			return r // what follows are the target's own options
		case "-s":
			test = within(value, func(p Packet) netip.Addr { return p.Src })
		case "-d":
			test = within(value, func(p Packet) netip.Addr { return p.Dst })
		case "-i":
			test = onInterface(value, func(p Packet) string { return p.In })
		case "-o":
			test = onInterface(value, func(p Packet) string { return p.Out })
		case "-p":
			test = func(p Packet) bool { return p.Protocol == value || value == "all" }
		case "--dport":
			test = inPorts(value)
		case "--dports":
			test = inAnyPorts(strings.Split(value, ","))
		case "--ctstate", "--state":
			test = func(p Packet) bool { return slices.Contains(strings.Split(value, ","), p.state()) }
		case "-m", "--comment":
			i++
			if option == "-m" && !slices.Contains([]string{"comment", "conntrack", "state", "udp", "tcp", "multiport"}, value) {
				r.known = false
			}
			continue
		default:
			if strings.HasPrefix(option, "-") {
				r.known = false
			}
			continue
		}
		i++
		if negate {
			positive := test
			test = func(p Packet) bool { return !positive(p) }
			negate = false
		}
		r.tests = append(r.tests, test)
	}
	return r
}

func within(value string, of func(Packet) netip.Addr) func(Packet) bool {
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		addr, _ := netip.ParseAddr(value)
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	return func(p Packet) bool { return prefix.Contains(of(p)) }
}

// onInterface matches a name, or a prefix that ends in +.
func onInterface(value string, of func(Packet) string) func(Packet) bool {
	if prefix, ok := strings.CutSuffix(value, "+"); ok {
		return func(p Packet) bool { return strings.HasPrefix(of(p), prefix) }
	}
	return func(p Packet) bool { return of(p) == value }
}

func inPorts(value string) func(Packet) bool {
	from, to, isRange := strings.Cut(value, ":")
	if !isRange {
		to = from
	}
	low, _ := strconv.ParseUint(from, 10, 16)
	high, _ := strconv.ParseUint(to, 10, 16)
	return func(p Packet) bool { return uint64(p.DstPort) >= low && uint64(p.DstPort) <= high }
}

// inAnyPorts is for the list of multiport.
func inAnyPorts(values []string) func(Packet) bool {
	var tests []func(Packet) bool
	for _, v := range values {
		tests = append(tests, inPorts(v))
	}
	return func(p Packet) bool {
		return slices.ContainsFunc(tests, func(test func(Packet) bool) bool { return test(p) })
	}
}

// fields splits a line as a shell does: iptables quotes comments.
func fields(line string) (out []string) {
	var word strings.Builder
	quoted, begun := false, false
	for _, c := range line {
		switch {
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				out = append(out, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if begun {
		out = append(out, word.String())
	}
	return out
}
