package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"twill/internal/api"
	"twill/internal/netfilter"
)

// input judges the datagrams that peers send to this host's UDP port. What cannot be judged is no finding while all peers answer.
func input(f *Facts, r *report) {
	if f.port() == 0 || f.UnderlayErr != nil || f.FiltersErr != nil {
		return // other rules tell of that
	}
	before := len(r.findings)
	unclear := !f.running() || slices.ContainsFunc(f.Peers, func(p api.Peer) bool { return p.State == api.StateUnreachable })
	for _, table := range f.Filters {
		judgeInput(f, r, table, unclear)
	}
	for _, chain := range f.Droppers.Input {
		if unclear {
			r.warn(api.FindingInput, fmt.Sprintf("nft insert rule %s udp dport %d accept", chain, f.port()),
				"the chain %s of nftables drops what no rule of it accepts", chain)
		}
	}
	if len(r.findings) == before {
		r.ok(api.FindingInput, "INPUT lets the peers' datagrams in")
	}
}

// judgeInput tells of the first peer whose datagrams a table drops. If it lets answers in, a peer is heard as long as this host's probes
// to it go on: by Netfilter's measure what the peer sends of itself is an answer then, as both use the same two ports.
func judgeInput(f *Facts, r *report, table netfilter.Table, unclear bool) {
	p := netfilter.Packet{In: f.Chosen.Name, Dst: f.Chosen.Addr, Protocol: "udp", DstPort: f.port()}
	remedy := fmt.Sprintf("%s -I INPUT -p udp --dport %d -j ACCEPT", table.Program, f.port())
	for _, p.Src = range f.senders() {
		v := table.Judge("INPUT", p)
		answer := p
		answer.Established = true
		switch {
		case v.Accept && (len(v.Unsure) == 0 || !unclear):
			continue
		case v.Accept:
			r.warn(api.FindingInput, "look at these rules by hand", "INPUT lets datagrams to UDP port %d in, unless they match: %s", p.DstPort, strings.Join(v.Unsure, "; "))
		case len(v.Unsure) > 0 && !unclear:
			continue
		case len(v.Unsure) > 0:
			r.warn(api.FindingInput, remedy, "INPUT drops datagrams to UDP port %d%s, by %s: `%s`, unless one of these lets them in: %s",
				p.DstPort, from(p.Src), table.Program, v.By, strings.Join(v.Unsure, "; "))
		case table.Judge("INPUT", answer).Accept:
			r.warn(api.FindingInput, remedy, "INPUT lets datagrams to UDP port %d%s in as answers alone, by %s: `%s`: a peer that this host has not sent to is not heard",
				p.DstPort, from(p.Src), table.Program, v.By)
		case !p.Src.IsValid():
			r.warn(api.FindingInput, remedy, "INPUT drops datagrams to UDP port %d, by %s: `%s`, unless a rule is about the other hosts' addresses, which are not known yet",
				p.DstPort, table.Program, v.By)
		default:
			r.fail(api.FindingInput, remedy, "INPUT drops datagrams to UDP port %d%s, by %s: `%s`", p.DstPort, from(p.Src), table.Program, v.By)
		}
		return
	}
}

func from(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return " from " + addr.String()
}

// mostSenders bounds what is judged, each against all rules.
const mostSenders = 100

// senders are the addresses that the other hosts' datagrams come from; one that is not valid where none is known.
func (f *Facts) senders() (addrs []netip.Addr) {
	for _, p := range f.Peers {
		addrs = append(addrs, p.Endpoint.Addr())
	}
	if !f.running() {
		for _, l := range f.Snapshot.Leases {
			if l.Err == nil && l.UDP() && l.PublicIP != f.Chosen.Addr {
				addrs = append(addrs, l.PublicIP)
			}
		}
	}
	if len(addrs) == 0 {
		return []netip.Addr{{}}
	}
	return addrs[:min(len(addrs), mostSenders)]
}
