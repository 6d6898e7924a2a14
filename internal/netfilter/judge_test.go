package netfilter

import (
	"net/netip"
	"slices"
	"testing"
)

// As Docker 20.10 and twill leave it.
const docker = `-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-ISOLATION-STAGE-2
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
`

const ours = `-A FORWARD -m comment --comment "twill: forward" -j TWILL-FWD-twill0
-A TWILL-FWD-twill0 -s 10.5.0.0/16 ! -d 10.5.0.0/16 -p udp -m udp --dport 53 -j DROP
-A TWILL-FWD-twill0 -s 10.5.0.0/16 -j ACCEPT
-A TWILL-FWD-twill0 -d 10.5.0.0/16 -j ACCEPT
`

func TestJudge(t *testing.T) {
	pod, remote := netip.MustParseAddr("10.5.1.2"), netip.MustParseAddr("10.5.2.2")
	out := Packet{In: "docker0", Out: "twill0", Src: pod, Dst: remote, Protocol: "udp", DstPort: 53}
	in := Packet{In: "twill0", Out: "docker0", Src: remote, Dst: pod, Protocol: "udp", DstPort: 53}
	established := in
	established.Established = true
	const answers = "-P FORWARD DROP\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
	for _, tt := range []struct {
		name, rules string
		packet      Packet
		accept      bool
		by          string
		unsure      int
	}{
		{"no rules", "-P FORWARD ACCEPT\n", in, true, "-P FORWARD ACCEPT", 0},
		{"no table", "", in, true, "-P FORWARD ", 0},
		{"Docker alone, out", docker, out, true, "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT", 0},
		{"Docker alone, in", docker, in, false, "-P FORWARD DROP", 0},
		{"Docker and ours, in", docker + ours, in, true, "-A TWILL-FWD-twill0 -s 10.5.0.0/16 -j ACCEPT", 0},
		{"a rule before ours", "-P FORWARD ACCEPT\n-A FORWARD -i twill+ -p udp -m udp --dport 50:60 -j REJECT --reject-with icmp-port-unreachable\n" + ours, in, false,
			"-A FORWARD -i twill+ -p udp -m udp --dport 50:60 -j REJECT --reject-with icmp-port-unreachable", 0},
		{"another port", "-P FORWARD ACCEPT\n-A FORWARD -p udp -m udp --dport 54 -j DROP\n", in, true, "-P FORWARD ACCEPT", 0},
		{"a match that is not known", "-P FORWARD ACCEPT\n-A FORWARD -m set --match-set bad src -j DROP\n", in, true, "-P FORWARD ACCEPT", 1},
		{"one that cannot match anyhow", "-P FORWARD ACCEPT\n-A FORWARD -i eth0 -m set --match-set bad src -j DROP\n", in, true, "-P FORWARD ACCEPT", 0},
		{"one of several ports", "-P FORWARD DROP\n-A FORWARD -p udp -m multiport --dports 50:52,53 -j ACCEPT\n", in, true, "-A FORWARD -p udp -m multiport --dports 50:52,53 -j ACCEPT", 0},
		{"none of several ports", "-P FORWARD DROP\n-A FORWARD -p udp -m multiport --dports 50:52,54 -j ACCEPT\n", in, false, "-P FORWARD DROP", 0},
		{"a new connection", answers, in, false, "-P FORWARD DROP", 0},
		{"one that stands", answers, established, true, "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", 0},
		{"goto", "-P FORWARD DROP\n-A FORWARD -g OTHER\n-A FORWARD -j ACCEPT\n-A OTHER -s 192.0.2.0/24 -j ACCEPT\n", in, false, "-P FORWARD DROP", 0},
		{"a loop ends", "-P FORWARD DROP\n-A FORWARD -j FORWARD\n", in, false, "-P FORWARD DROP", 0},
	} {
		v := Parse(tt.rules).Judge("FORWARD", tt.packet)
		if v.Accept != tt.accept || v.By != tt.by || len(v.Unsure) != tt.unsure {
			t.Errorf("%s: %+v; want accept=%t by %q, %d unsure", tt.name, v, tt.accept, tt.by, tt.unsure)
		}
	}
}

func TestDroppers(t *testing.T) {
	got, err := parseDroppers([]byte(`{"nftables":[{"metainfo":{"version":"1.0.6"}},
		{"chain":{"family":"ip","table":"filter","name":"FORWARD","hook":"forward","policy":"drop"}},
		{"chain":{"family":"ip","table":"filter","name":"INPUT","hook":"input","policy":"drop"}},
		{"chain":{"family":"inet","table":"firewalld","name":"filter_FORWARD","hook":"forward","policy":"drop"}},
		{"chain":{"family":"inet","table":"mine","name":"in","hook":"input","policy":"drop"}}]}`))
	if err != nil || !slices.Equal(got.Forward, []string{"inet firewalld filter_FORWARD"}) || !slices.Equal(got.Input, []string{"inet mine in"}) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := parseDroppers([]byte("{")); err == nil {
		t.Error("half a listing was read")
	}
}
