package daemon

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"twill/internal/api"
	"twill/routes"
	"twill/subnet"
	"twill/tunnel"
)

func TestProblems(t *testing.T) {
	serves := subnet.View{Etcd: subnet.EtcdState{Serves: true}}
	away := subnet.View{Etcd: subnet.EtcdState{Err: "connection refused"}}
	clocks := func(ahead ...time.Duration) census {
		var c census
		for _, d := range ahead {
			c.clocks = append(c.clocks, clock{"host2", d})
		}
		return c
	}
	peers := func(away, probed int) census {
		c := census{probed: probed, states: map[api.PeerState]int{api.StateUnreachable: away, api.StateIncompatible: 9}}
		c.away = []string{"a", "b", "c"}[:min(away, 3)]
		return c
	}
	const notice = "notice "
	for _, tt := range []struct {
		name string
		c    condition
		want []string // codes of the problems, then of the notices
		says string   // a part of the first
	}{
		{"healthy", condition{view: serves, latency: time.Millisecond, leaseKnown: true, leaseLeft: time.Hour}, nil, ""},
		{"etcd away", condition{view: away, leaseKnown: true, leaseLeft: 23 * time.Hour}, []string{api.ProblemEtcdAway}, "etcd is away: connection refused"},
		{"etcd refuses", condition{view: subnet.View{Etcd: subnet.EtcdState{Refuses: true, Err: "no space"}}}, []string{api.ProblemEtcdRefuses}, "no space"},
		{"etcd slow", condition{view: serves, latency: 2 * time.Second}, []string{api.ProblemEtcdSlow}, "it took 2s"},
		{"slow, then away", condition{view: away, latency: 2 * time.Second}, []string{api.ProblemEtcdAway}, ""},
		{"lease expires", condition{view: away, leaseKnown: true, leaseLeft: time.Hour}, []string{api.ProblemEtcdAway, api.ProblemLeaseExpiring}, ""},
		{"from cache", condition{view: subnet.View{Etcd: away.Etcd, Cached: time.Unix(1e9, 0)}}, []string{api.ProblemEtcdAway, api.ProblemCached}, ""},
		{"underlay", condition{view: serves, underlay: "no address"}, []string{api.ProblemUnderlay}, "no address"},
		{"device", condition{view: serves, device: "route is missing"}, []string{api.ProblemDevice}, "route is missing"},
		{"bridge", condition{view: serves, bridge: "docker0 is elsewhere"}, []string{api.ProblemBridge}, "docker0 is elsewhere"},
		{"subnet.env", condition{view: serves, subnetFile: "read-only file system"}, []string{api.ProblemSubnetFile}, "read-only"},
		{"config", condition{view: subnet.View{Etcd: serves.Etcd, ConfigProblem: "changed"}}, []string{api.ProblemConfig}, "changed"},
		{"most peers", condition{view: serves, peers: peers(5, 7)}, []string{api.ProblemPeersUnreachable}, "peers without an answer: a, b, c and 2 more (5 of 7 that are asked)"},
		{"the only peer", condition{view: serves, peers: peers(1, 1)}, []string{api.ProblemPeersUnreachable}, "a (1 of 1"},
		{"half the peers", condition{view: serves, peers: peers(2, 4)}, []string{api.ProblemPeersUnreachable}, "a, b (2 of 4"},
		{"fewer peers", condition{view: serves, peers: peers(3, 7)}, []string{notice + api.ProblemPeersUnreachable}, "a, b, c (3 of 7"},
		{"our clock", condition{view: serves, peers: clocks(-9*time.Second, -8*time.Second, 0)}, []string{api.ProblemClock}, "this host's clock is 8s ahead of most of its 3 peers'"},
		{"our clock is late", condition{view: serves, peers: clocks(9*time.Second, 8*time.Second, 0)}, []string{api.ProblemClock}, "this host's clock is 8s behind"},
		{"a peer's clock", condition{view: serves, peers: clocks(0, -9*time.Second, 0)}, []string{notice + api.ProblemClock}, "host2 (9s behind ours)"},
		{"one peer, one of two clocks", condition{view: serves, peers: clocks(9 * time.Second)}, []string{api.ProblemClock}, "host2 (9s ahead of ours)"},
		{"clocks agree", condition{view: serves, peers: clocks(time.Second, -time.Second, 0)}, nil, ""},
		{"stranger", condition{view: serves, stranger: tunnel.Sighting{From: netip.MustParseAddr("198.18.0.7")}, strangerDrops: 12}, []string{notice + api.ProblemUnknownSender}, "198.18.0.7 keeps sending"},
	} {
		found := tt.c.findings()
		all := slices.Concat(found.problems, found.notices)
		var codes []string
		for i, p := range all {
			if p.Problem == "" || p.Remedy == "" {
				t.Errorf("%s: %+v says too little", tt.name, p)
			}
			if i >= len(found.problems) {
				p.Code = notice + p.Code
			}
			codes = append(codes, p.Code)
		}
		if found.problems == nil || found.notices == nil || !slices.Equal(codes, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, codes, tt.want)
		} else if len(all) > 0 && !strings.Contains(all[0].Problem, tt.says) {
			t.Errorf("%s: %q, want it to say %q", tt.name, all[0].Problem, tt.says)
		}
	}
}

// Somebody who keeps sending is told of, one who tried once is none.
func TestStrangers(t *testing.T) {
	var s strangers
	for i, tt := range []struct {
		drops uint64
		stay  bool
	}{{1, false}, {1, false}, {5, false}, {9, true}, {10, true}, {10, false}, {11, false}} {
		if s.look(tt.drops); s.stay.Load() != tt.stay {
			t.Errorf("look %d, %d drops: %v, want %v", i, tt.drops, !tt.stay, tt.stay)
		}
	}
}

func TestMisplacedBridges(t *testing.T) {
	network, own := netip.MustParsePrefix("10.5.0.0/16"), netip.MustParsePrefix("10.5.7.0/24")
	bridge := func(name, address string) routes.Bridge {
		return routes.Bridge{Name: name, Address: netip.MustParsePrefix(address)}
	}
	for _, tt := range []struct {
		name    string
		bridges []routes.Bridge
		bad     string // the bridge that is misplaced
	}{
		{"none", nil, ""},
		{"in our subnet", []routes.Bridge{bridge("docker0", "10.5.7.1/24")}, ""},
		{"in a part of it", []routes.Bridge{bridge("docker0", "10.5.7.129/25")}, ""},
		{"in a former one", []routes.Bridge{bridge("docker0", "10.5.8.1/24")}, "docker0"},
		{"also in a former one", []routes.Bridge{bridge("cni0", "10.5.7.1/24"), bridge("docker0", "10.5.8.1/24")}, "docker0"},
		{"over all of the network", []routes.Bridge{bridge("cni0", "10.5.0.1/16")}, "cni0"},
		{"Docker's own", []routes.Bridge{bridge("docker0", "172.17.0.1/16")}, "docker0"},
		{"Docker's own beside ours", []routes.Bridge{bridge("docker0", "172.17.0.1/16"), bridge("cni0", "10.5.7.1/24")}, ""},
		{"of others", []routes.Bridge{bridge("br0", "192.0.2.7/24"), bridge("virbr0", "192.168.122.1/24")}, ""},
	} {
		err := misplaced(tt.bridges, network, own)
		if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), "bridge "+tt.bad) {
			t.Errorf("%s: %v, want one about %q", tt.name, err, tt.bad)
		}
	}
}
