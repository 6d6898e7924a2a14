package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"twill/internal/api"
	"twill/subnet"
	"twill/tunnel"
)

const (
	// heardMargin is how long after the first probe without an answer a packet of
	// the peer must come to show that only our direction fails.
	heardMargin = time.Second
	// heardWithin is how recent that packet is: a peer that we do not answer
	// probes us at least so often.
	heardWithin = 15 * time.Second
)

// unreachable says why a peer does not answer probes, by what arrives from it
// and what the network says about what is sent to it.
func unreachable(p *subnet.Peer, stats *tunnel.PeerStats, now time.Time) api.Problem {
	path := &stats.Path
	missed := fmt.Sprintf("no answer to %d probes", path.Unanswered)
	at, who, claimed := p.Endpoint, name(p), claimedFrom(stats, now)
	switch {
	case claimed.IsValid():
		return api.Problem{
			Code:    api.ReasonAddress,
			Problem: fmt.Sprintf("%s: datagrams in its name come from %s and are not accepted, for its lease says %s", missed, claimed, at.Addr()),
			Remedy:  fmt.Sprintf("is its --public-ip right? If %s is %s, start twill there without --public-ip or with --public-ip %s; if a NAT is between, give it the address and port that the NAT has outside (--public-ip, --public-port)", claimed, who, claimed),
		}
	case stats.LastSeen.Sub(path.UnansweredSince) > heardMargin && now.Sub(stats.LastSeen) < heardWithin:
		return api.Problem{
			Code:    api.ReasonOneWay,
			Problem: missed + ", though its packets arrive: what we send does not reach it" + refused(path.Refusal),
			Remedy:  fmt.Sprintf("let UDP to %s through: in the firewall of %s, on the way, and in this host's output", at, who),
		}
	case path.Refusal.Err != nil:
		return refusal(missed, at, who, path.Refusal)
	case path.Inquired:
		return api.Problem{
			Code:    api.ReasonDropped,
			Problem: fmt.Sprintf("%s, %s, and the network says nothing: something drops UDP in silence, its daemon hangs, or its host has just died (ARP takes up to a minute to tell)", missed, heard(stats, now)),
			Remedy: fmt.Sprintf("let UDP to %s and back through, on the way and in the firewalls of both hosts; `twill peers` on %s tells more: if it says that our packets arrive, only the way back is closed",
				at, who),
		}
	}
	return api.Problem{
		Code:    api.ReasonUnknown,
		Problem: missed + ", " + heard(stats, now),
		Remedy:  fmt.Sprintf("look whether twill runs on %s, and let UDP to %s and back through", who, at),
	}
}

// heard says how long ago the peer was heard last.
func heard(stats *tunnel.PeerStats, now time.Time) string {
	if stats.LastSeen.IsZero() {
		return "nothing was ever heard of it"
	}
	return fmt.Sprintf("nothing heard for %s", now.Sub(stats.LastSeen).Round(time.Second))
}

// refusal explains what the network says of what is sent to a peer.
func refusal(missed string, at netip.AddrPort, who string, r tunnel.Refusal) api.Problem {
	p := api.Problem{Code: api.ReasonUnknown}
	switch {
	case r.Prohibited(), errors.Is(r.Err, unix.ECONNREFUSED) && r.From.IsValid() && r.From != at.Addr(): // as iptables' REJECT has it
		p.Code = api.ReasonForbidden
		p.Problem = fmt.Sprintf("%s: a firewall at %s refuses what we send", missed, r.From)
		p.Remedy = fmt.Sprintf("let UDP to %s through there", at)
	case errors.Is(r.Err, unix.ECONNREFUSED):
		p.Code = api.ReasonDaemon
		p.Problem = fmt.Sprintf("%s: its host is there, but nobody listens on UDP port %d: its twill does not run", missed, at.Port())
		p.Remedy = fmt.Sprintf("on %s: `systemctl start twill`, and `journalctl -u twill` for why it ended; if it runs, its firewall rejects the port", who)
	case errors.Is(r.Err, unix.EHOSTUNREACH) && (!r.From.IsValid() || r.From != at.Addr()):
		p.Code = api.ReasonHost
		p.Problem = fmt.Sprintf("%s: no host answers at %s%s: it is down or cut off, or that is not its address", missed, at.Addr(), saidBy(r))
		p.Remedy = fmt.Sprintf("look whether %s runs, has its link, and has the address %s", who, at.Addr())
	case errors.Is(r.Err, unix.ENETUNREACH):
		p.Code = api.ReasonRoute
		p.Problem = fmt.Sprintf("%s: there is no route to %s%s", missed, at.Addr(), saidBy(r))
		p.Remedy = fmt.Sprintf("add a route to it; `ip route get %s` shows what the kernel would do", at.Addr())
	case errors.Is(r.Err, unix.EPERM), errors.Is(r.Err, unix.EACCES):
		p.Code = api.ReasonForbidden
		p.Problem = fmt.Sprintf("%s: a rule of this host forbids what we send", missed)
		p.Remedy = fmt.Sprintf("let UDP to %s out: `iptables -S OUTPUT`, `nft list ruleset`", at)
	case errors.Is(r.Err, unix.ENOBUFS), errors.Is(r.Err, unix.ENOMEM):
		p.Code = api.ReasonNoBuffers
		p.Problem = fmt.Sprintf("%s: this host drops what we send, for the queue of its interface is full or its memory is short", missed)
		p.Remedy = fmt.Sprintf("`ip route get %s` names the interface, `tc -s qdisc show dev` it what its queue drops: less traffic, or a faster or longer queue; then look at the memory", at.Addr())
	default:
		p.Problem = fmt.Sprintf("%s: %v%s", missed, r.Err, saidBy(r))
		p.Remedy = fmt.Sprintf("look after the way to %s", at)
	}
	return p
}

// saidBy names who sent an ICMP message, if there was one.
func saidBy(r tunnel.Refusal) string {
	if !r.From.IsValid() {
		return ""
	}
	return fmt.Sprintf(" (says %s)", r.From)
}

// refused is refusal in a few words, behind others.
func refused(r tunnel.Refusal) string {
	if r.Err == nil {
		return ""
	}
	return fmt.Sprintf(" (%v%s)", r.Err, saidBy(r))
}
