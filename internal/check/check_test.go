package check

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"twill/internal/api"
	"twill/internal/netfilter"
	"twill/routes"
	"twill/subnet"
)

// healthy is a host on which nothing is wrong, with its daemon and one peer.
func healthy() *Facts {
	own := netip.MustParsePrefix("10.5.1.0/24")
	ahead, none := 0.01, 0.0
	lease := subnet.Lease{Name: "10.5.1.0-24", Key: subnet.Key{Subnet: own}, ID: 7, Value: subnet.Value{PublicIP: netip.MustParseAddr("192.0.2.1"), NodeID: "me", Node: "node1", Proto: 1}}
	network := subnet.Config{Network: netip.MustParsePrefix("10.5.0.0/16"), SubnetLen: 24, Port: 8285}
	return &Facts{
		Settings:   Settings{TunName: "twill0", SubnetFile: "/run/twill/subnet.env", ForwardRules: true, Etcd: subnet.EtcdConfig{Prefix: "/coreos.com/network"}},
		Forwarding: true,
		Links: []Link{
			{Name: "eth0", Kind: "device", MTU: 1500, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}},
			{Name: "twill0", Kind: "tuntap", MTU: 1472},
			{Name: "docker0", Kind: "bridge", MTU: 1472, Addrs: []netip.Prefix{netip.MustParsePrefix("10.5.1.1/24")}, Ports: []Port{{"veth1", 1472}}},
		},
		Chosen:    routes.Underlay{Name: "eth0", Index: 2, MTU: 1500, Addr: netip.MustParseAddr("192.0.2.1")},
		Filters:   []netfilter.Table{{Program: "iptables", Ruleset: netfilter.Parse("-P FORWARD ACCEPT\n")}},
		PortUsers: []string{"twill (process 7)"},
		Systemd:   Systemd{Runs: true, Enabled: "enabled", Docker: true, DockerAfter: true, DockerArgs: true},
		Env:       subnet.Env{Network: network.Network, Subnet: netip.MustParsePrefix("10.5.1.1/24"), MTU: 1472},
		Status: api.Status{
			Version: "1.0", NodeID: "me", Network: network.Network, Subnet: own, PublicIP: netip.MustParseAddr("192.0.2.1"), Port: 8285, Device: "twill0", MTU: 1472,
			Offloads: []api.Offload{{Name: "tso", On: true}},
		},
		Peers:    []api.Peer{{Subnet: netip.MustParsePrefix("10.5.2.0/24"), Endpoint: netip.MustParseAddrPort("192.0.2.2:8285"), Node: "node2", State: api.StateUp, PathMTU: 1472, ClockAhead: &ahead, LossOut: &none, LossIn: &none}},
		Etcd:     []subnet.EndpointState{{Endpoint: "http://192.0.2.9:2379", Version: "3.5.21", RoundTrip: time.Millisecond}},
		Snapshot: subnet.Snapshot{Leases: []subnet.Lease{lease}},
		Network:  network,
		OwnTTL:   23 * time.Hour,
	}
}

// A host on which nothing is wrong has no finding that asks for something.
func TestHealthyHost(t *testing.T) {
	for _, f := range Judge(healthy()) {
		if f.Level != api.LevelOK || f.Remedy != "" {
			t.Errorf("%+v", f)
		}
	}
	if n := len(Judge(healthy())); n < 10 {
		t.Errorf("only %d findings", n)
	}
}

// Each fault has a finding of its own, with what to do.
func TestFaults(t *testing.T) {
	off, lost := -3600.0, 0.2
	for _, tt := range []struct {
		name   string
		spoil  func(*Facts)
		code   string
		level  api.Level
		found  string // a part of it
		remedy string // likewise
	}{
		{"no TUN", func(f *Facts) { f.TUNErr = errors.New("no such device") }, api.FindingTUN, api.LevelFail, "no such device", "modprobe tun"},
		{"device gone", func(f *Facts) { f.Links = f.Links[:1] }, api.ProblemDevice, api.LevelFail, "twill0 is gone", "restart twill"},
		{"not root", func(f *Facts) { f.CapabilityErr = errors.New("no CAP_NET_ADMIN") }, api.FindingCapability, api.LevelWarn, "CAP_NET_ADMIN", "as root"},
		{"no forwarding", func(f *Facts) { f.Forwarding = false }, api.FindingForwarding, api.LevelFail, "ip_forward is 0", "sysctl -w"},
		{"strict filter on the device", func(f *Facts) { f.Links[1].RPFilter = 1 }, api.FindingReverse, api.LevelFail, "strict on twill0", "net.ipv4.conf.twill0.rp_filter=0"},
		{"strict filter and a way round", func(f *Facts) {
			f.Links[0].RPFilter = 1
			f.Strays = map[netip.Prefix]string{f.Peers[0].Subnet: "eth1"}
		}, api.FindingReverse, api.LevelFail, "reached by eth1", "conf.eth0.rp_filter=2"},
		{"FORWARD DROP", func(f *Facts) { f.Filters[0].Ruleset = netfilter.Parse("-P FORWARD DROP\n") }, api.FindingFirewall, api.LevelFail, "-P FORWARD DROP", "iptables -I FORWARD -s 10.5.0.0/16 -j ACCEPT"},
		{"rule that cannot be judged", func(f *Facts) {
			f.Filters[0].Ruleset = netfilter.Parse("-P FORWARD ACCEPT\n-A FORWARD -m time --timestart 08:00 -j DROP\n")
		}, api.FindingFirewall, api.LevelWarn, "--timestart", "by hand"},
		{"firewalld", func(f *Facts) { f.Droppers.Forward = []string{"inet firewalld filter_FORWARD"} }, api.FindingFirewall, api.LevelWarn, "firewalld", "nft insert rule inet firewalld"},
		{"no underlay", func(f *Facts) { f.UnderlayErr = errors.New("no usable underlay interface") }, api.ProblemUnderlay, api.LevelFail, "no usable", "--iface"},
		{"MTU too large", func(f *Facts) { f.Settings.MTU = 1500 }, api.FindingPathMTU, api.LevelWarn, "1500 is more than the 1472", "1472"},
		{"nobody listens", func(f *Facts) { f.PortUsers = nil }, api.FindingPort, api.LevelFail, "nobody listens", "restart twill"},
		{"port taken", func(f *Facts) { f.DaemonErr, f.PortUsers = api.ErrNotRunning, []string{"flanneld (process 9)"} }, api.FindingPort, api.LevelFail, "flanneld", "stop it"},
		{"unit disabled", func(f *Facts) { f.Systemd.Enabled = "disabled" }, api.FindingService, api.LevelWarn, "disabled", "systemctl enable"},
		{"Docker first", func(f *Facts) { f.Systemd.DockerAfter = false }, api.FindingService, api.LevelFail, "does not start after", "daemon-reload"},
		{"Docker without options", func(f *Facts) { f.Systemd.DockerArgs = false }, api.FindingService, api.LevelWarn, "twill's options", "restart docker"},
		{"not running", func(f *Facts) { f.DaemonErr = api.ErrNotRunning }, api.FindingDaemon, api.LevelWarn, "no twill daemon", "systemctl enable"},
		{"ended", func(f *Facts) { f.DaemonErr, f.LastEnd = api.ErrNotRunning, "the TUN device was deleted" }, api.FindingDaemon, api.LevelFail, "TUN device was deleted", "systemctl start"},
		{"the daemon's own problem", func(f *Facts) {
			f.Status.Problems = []api.Problem{{Code: api.ProblemEtcdAway, Problem: "etcd is away", Remedy: "start it"}}
		}, api.ProblemEtcdAway, api.LevelFail, "etcd is away", "start it"},
		{"offload off", func(f *Facts) { f.Status.Offloads[0] = api.Offload{Name: "tso", Why: "the kernel lacks it"} }, api.FindingOffload, api.LevelWarn, "tso", "kernel"},
		{"one etcd away", func(f *Facts) { f.Etcd[0].Err = errors.New("connection refused") }, api.FindingEtcd, api.LevelWarn, "connection refused", "/health"},
		{"etcd slow", func(f *Facts) { f.Etcd[0].RoundTrip = time.Second }, api.ProblemEtcdSlow, api.LevelWarn, "takes 1s", "etcdctl"},
		{"etcd alarm", func(f *Facts) { f.Etcd[0].Errors = []string{"NOSPACE"} }, api.FindingEtcd, api.LevelWarn, "NOSPACE", "alarm list"},
		{"etcd old", func(f *Facts) { f.Etcd[0].Version = "3.3.27" }, api.FindingEtcdVersion, api.LevelWarn, "3.3.27", "upgrade"},
		{"no etcd", func(f *Facts) { f.DaemonErr, f.EtcdErr = api.ErrNotRunning, errors.New("no answer") }, api.ProblemEtcdAway, api.LevelFail, "no answer", "--etcd-endpoints"},
		{"reading is slow", func(f *Facts) { f.RoundTrip = time.Second }, api.ProblemEtcdSlow, api.LevelWarn, "took 1s", "disk"},
		{"own lease missing", func(f *Facts) { f.Snapshot.Leases = nil }, api.FindingOwnLease, api.LevelFail, "not in etcd", "restart twill"},
		{"own lease another's", func(f *Facts) { f.Snapshot.Leases[0].NodeID = "other" }, api.FindingLeaseUnused, api.LevelFail, "belongs to", "restart twill"},
		{"own lease elsewhere", func(f *Facts) { f.Snapshot.Leases[0].PublicIP = netip.MustParseAddr("192.0.2.8") }, api.FindingOwnLease, api.LevelFail, "192.0.2.8", "restart twill"},
		{"own lease expires", func(f *Facts) { f.OwnTTL = time.Hour }, api.FindingOwnLease, api.LevelWarn, "expires in 1h0m0s", "journalctl"},
		{"lease not used", func(f *Facts) {
			f.Snapshot.Leases = append(f.Snapshot.Leases, subnet.Lease{Name: "x", Err: errors.New("does not parse")})
		}, api.FindingLeaseUnused, api.LevelWarn, "does not parse", "etcdctl del '/coreos.com/network/subnets/x"},
		{"lease with a hostile name", func(f *Facts) {
			f.Snapshot.Leases = append(f.Snapshot.Leases, subnet.Lease{Name: "x'; reboot; '", Err: errors.New("does not parse")})
		}, api.FindingLeaseUnused, api.LevelWarn, "does not parse", `etcdctl del '/coreos.com/network/subnets/x'\''; reboot; '\'''`},
		{"overlap", func(f *Facts) { f.DaemonErr, f.OverlapErr = api.ErrNotRunning, errors.New("overlaps address") }, api.FindingOverlap, api.LevelFail, "overlaps", "twill config set"},
		{"bridge elsewhere in the network", func(f *Facts) { f.Links[2].Addrs = []netip.Prefix{netip.MustParsePrefix("10.5.9.1/24")} }, api.ProblemBridge, api.LevelFail, "10.5.9.0/24", "restart docker"},
		{"bridge outside", func(f *Facts) { f.Links[2].Addrs = []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")} }, api.ProblemBridge, api.LevelWarn, "172.17.0.0/16", "twill docker-opts"},
		{"large pods", func(f *Facts) { f.Links[2].Ports[0].MTU = 1500 }, api.FindingBridgeMTU, api.LevelWarn, "veth1 (1500)", "--mtu"},
		{"daemon.json", func(f *Facts) { f.DaemonJSONErr = errors.New("sets bip") }, api.FindingDaemonJSON, api.LevelFail, "sets bip", "remove"},
		{"subnet.env of another subnet", func(f *Facts) { f.Env.Subnet = netip.MustParsePrefix("10.5.9.1/24") }, api.ProblemSubnetFile, api.LevelFail, "10.5.9.1/24", "restart twill"},
		{"subnet.env unreadable", func(f *Facts) { f.EnvErr = errors.New("line 1: broken") }, api.ProblemSubnetFile, api.LevelFail, "line 1", "restart twill"},
		{"subnet.env with an old MTU", func(f *Facts) { f.Env.MTU = 1400 }, api.ProblemSubnetFile, api.LevelWarn, "1400", "restart"},
		{"peer unreachable", func(f *Facts) {
			f.Peers[0].State, f.Peers[0].ReasonCode, f.Peers[0].Reason, f.Peers[0].Remedy = api.StateUnreachable, api.ReasonHost, "no host answers", "look there"
		}, api.ReasonHost, api.LevelWarn, "node2 (10.5.2.0/24) is unreachable: no host answers", "look there"},
		{"peers that this host is to blame for", func(f *Facts) {
			f.Peers[0].State, f.Peers[0].ReasonCode = api.StateUnreachable, api.ReasonHost
			f.Status.Problems = []api.Problem{{Code: api.ProblemPeersUnreachable}}
		}, api.ReasonHost, api.LevelFail, "node2 (10.5.2.0/24) is unreachable", ""},
		{"stranger", func(f *Facts) {
			f.Status.Notices = []api.Problem{{Code: api.ProblemUnknownSender, Problem: "192.0.2.77 keeps sending", Remedy: "keep it out"}}
		}, api.ProblemUnknownSender, api.LevelWarn, "192.0.2.77", "keep it out"},
		{"INPUT DROP", func(f *Facts) { f.Filters[0].Ruleset = netfilter.Parse(inputDrop) }, api.FindingInput, api.LevelFail, "from 192.0.2.2, by iptables: `-P INPUT DROP`", "iptables -I INPUT -p udp --dport 8285 -j ACCEPT"},
		{"INPUT takes others", func(f *Facts) {
			f.Filters[0].Ruleset = netfilter.Parse(inputDrop + "-A INPUT -s 198.51.100.0/24 -p udp --dport 8285 -j ACCEPT\n")
		}, api.FindingInput, api.LevelFail, "from 192.0.2.2", "-I INPUT"},
		{"INPUT takes answers", func(f *Facts) {
			f.Filters[0].Ruleset = netfilter.Parse(inputDrop + "-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n")
		}, api.FindingInput, api.LevelWarn, "as answers alone", "-I INPUT"},
		{"INPUT drops, perhaps", func(f *Facts) {
			f.Peers[0].State = api.StateUnreachable
			f.Filters[0].Ruleset = netfilter.Parse(inputDrop + "-A INPUT -m set --match-set hosts src -j ACCEPT\n")
		}, api.FindingInput, api.LevelWarn, "unless one of these lets them in: -A INPUT -m set", "-I INPUT"},
		{"INPUT accepts, perhaps", func(f *Facts) {
			f.Peers[0].State = api.StateUnreachable
			f.Filters[0].Ruleset = netfilter.Parse("-A INPUT -m set --match-set bad src -j DROP\n")
		}, api.FindingInput, api.LevelWarn, "unless they match: -A INPUT -m set", "by hand"},
		{"INPUT of a host that knows no other", func(f *Facts) {
			f.DaemonErr, f.Status, f.Peers, f.Snapshot.Leases = api.ErrNotRunning, api.Status{}, nil, nil
			f.Filters[0].Ruleset = netfilter.Parse(inputDrop)
		}, api.FindingInput, api.LevelWarn, "not known yet", "-I INPUT"},
		{"INPUT before the start", func(f *Facts) {
			f.DaemonErr, f.Status, f.Peers = api.ErrNotRunning, api.Status{}, nil
			f.Snapshot.Leases = append(f.Snapshot.Leases, subnet.Lease{Value: subnet.Value{PublicIP: netip.MustParseAddr("192.0.2.3")}})
			f.Filters[0].Ruleset = netfilter.Parse(inputDrop)
		}, api.FindingInput, api.LevelFail, "from 192.0.2.3", "-I INPUT"},
		{"nftables' own INPUT", func(f *Facts) {
			f.Peers[0].State = api.StateUnreachable
			f.Droppers.Input = []string{"inet filter input"}
		}, api.FindingInput, api.LevelWarn, "inet filter input", "nft insert rule inet filter input udp dport 8285 accept"},
		{"peer vanished", func(f *Facts) { f.Peers[0].State = api.StateVanished }, api.FindingPeerLease, api.LevelWarn, "expired or was deleted", "twill runs on node2"},
		{"loss", func(f *Facts) { f.Peers[0].LossIn = &lost }, api.FindingPeers, api.LevelWarn, "20% in", "ip -s link"},
		{"small path", func(f *Facts) { f.Peers[0].PathMTU = 1372 }, api.FindingPathMTU, api.LevelWarn, "1372", "--mtu 1372"},
		{"clock", func(f *Facts) { f.Peers[0].ClockAhead = &off }, api.ProblemClock, api.LevelWarn, "1h0m0s behind", "set-ntp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := healthy()
			tt.spoil(f)
			findings := Judge(f)
			for _, got := range findings {
				if got.Code == tt.code && got.Level == tt.level && strings.Contains(got.Found, tt.found) && strings.Contains(got.Remedy, tt.remedy) {
					return
				}
			}
			t.Errorf("want %s %s with %q and %q, got %+v", tt.level, tt.code, tt.found, tt.remedy, findings)
		})
	}
}

const inputDrop = "-P FORWARD ACCEPT\n-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m multiport --dports 22,2379 -j ACCEPT\n"

// What is heard of peers shows that the rules which cannot be judged let it in; so does a rule for the port.
func TestInputIsOpen(t *testing.T) {
	for name, spoil := range map[string]func(*Facts){
		"a rule for the port": func(f *Facts) {
			f.Filters[0].Ruleset = netfilter.Parse(inputDrop + "-A INPUT -p udp -m multiport --dports 53,8285 -j ACCEPT\n")
		},
		"a set of hosts": func(f *Facts) {
			f.Filters[0].Ruleset = netfilter.Parse(inputDrop + "-A INPUT -m set --match-set hosts src -j ACCEPT\n")
		},
		"a set of others": func(f *Facts) {
			f.Filters[0].Ruleset = netfilter.Parse("-A INPUT -m set --match-set bad src -j DROP\n")
		},
		"nftables": func(f *Facts) { f.Droppers.Input = []string{"inet filter input"} },
	} {
		f := healthy()
		spoil(f)
		for _, got := range Judge(f) {
			if got.Level != api.LevelOK {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
}

// Where no peer answers this host is the one to look at, and where all clocks differ it is this one.
func TestThisHostIsTheOdd(t *testing.T) {
	f, off := healthy(), 100.0
	f.Peers = append(f.Peers, f.Peers[0])
	for i := range f.Peers {
		f.Peers[i].ClockAhead = &off
		f.Peers[i].State, f.Peers[i].ReasonCode = api.StateUnreachable, api.ReasonDropped
	}
	odd := map[string]bool{}
	for _, got := range Judge(f) {
		odd[got.Code] = odd[got.Code] || strings.Contains(got.Found, "this host") || strings.Contains(got.Found, "here")
	}
	if !odd[api.FindingPeers] || !odd[api.ProblemClock] {
		t.Errorf("%+v", Judge(f))
	}
}

// A host before its first start: what the daemon will do by itself is no fault.
func TestPreflight(t *testing.T) {
	f := healthy()
	f.DaemonErr, f.Status, f.Peers, f.PortUsers, f.Snapshot.Leases = api.ErrNotRunning, api.Status{}, nil, nil, nil
	f.SetSysctls, f.Forwarding = true, false
	f.Filters[0].Ruleset = netfilter.Parse("-P FORWARD DROP\n")
	for _, got := range Judge(f) {
		if got.Level == api.LevelFail {
			t.Errorf("%+v", got)
		}
	}
}

func TestBoundInodes(t *testing.T) {
	const text = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 010200C0:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0
  101: 00000000:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
  102: 020200C0:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4713 2 0000000000000000 0
  103: 010200C0:205E 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4714 2 0000000000000000 0
`
	if got := boundInodes(text, 8285, netip.MustParseAddr("192.0.2.1")); len(got) != 2 || got[0] != "4711" || got[1] != "4712" {
		t.Errorf("%q, want 4711 and 4712", got)
	}
}
