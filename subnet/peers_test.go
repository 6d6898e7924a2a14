package subnet

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func graceOf(d time.Duration) func(*Options) { return func(o *Options) { o.Grace = d } }

func TestPeersComeAndGo(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	const short = time.Second
	h := n.join(host(1), previous("10.5.1.0/24"), graceOf(short))
	h.waitPeers()

	other := n.join(host(2), previous("10.5.2.0/24"))
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285")
	other.waitPeers("10.5.1.0/24 192.0.2.1:8285")

	other.stop()
	n.delete("10.5.2.0-24")
	gone := h.waitPeers("10.5.2.0/24 192.0.2.2:8285 gone").Peers[0].Vanished
	h.waitPeers()
	if d := time.Since(gone); d < short {
		t.Errorf("gone for good after %v, want at least the grace of %v", d, short)
	}
}

func TestVanishedSubnetTakenByAnother(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.join(host(1))
	n.put("10.5.2.0-24", valueOf(host(2)), time.Hour)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285")
	n.delete("10.5.2.0-24")
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285 gone")
	n.put("10.5.2.0-24", valueOf(host(3)), time.Hour)
	h.waitPeers("10.5.2.0/24 192.0.2.3:8285")
}

func TestPeerMoves(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, `{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":7000}}`)
	h := n.join(host(1))
	n.put("10.5.2.0-24", flannelValue(host(2).PublicIP), time.Hour)
	h.waitPeers("10.5.2.0/24 192.0.2.2:7000") // Flannel's: the config's port
	moved := host(2)
	moved.PublicIP = host(22).PublicIP
	n.put("10.5.2.0-24", valueOf(moved), time.Hour)
	h.waitPeers("10.5.2.0/24 192.0.2.22:8285")
	moved.Port = 9000
	n.put("10.5.2.0-24", valueOf(moved), time.Hour)
	h.waitPeers("10.5.2.0/24 192.0.2.22:9000")
}

// A node without a port of its own listens on the network config's, and says so.
func TestPortOfTheConfig(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, `{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":7000}}`)
	portless := host(1)
	portless.Port = 0
	if h := n.join(portless); h.own.Port != 7000 || n.leases()[h.own.Name].Port != 7000 {
		t.Fatalf("holds %+v, want port 7000", h.own)
	}
}

// Whatever somebody writes under one key costs the lease of that key alone.
func TestPoisonCostsOnlyItself(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	const short = time.Second
	h := n.join(host(1), previous("10.5.1.0/24"), graceOf(short))
	n.put("10.5.2.0-24", valueOf(host(2)), time.Hour)
	n.put("10.5.3.0-24", valueOf(host(3)), time.Hour)
	const good = "10.5.3.0/24 192.0.2.3:8285"
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285", good)

	poison := map[string]string{
		"10.5.2.0-24":                   "{",
		"10.5.4.0-24":                   "",
		"10.5.5.0-24":                   "\x00\xff\xfe",
		"10.5.6.0-24":                   flannelValue(host(1).PublicIP) + "x",
		"10.5.7.0-24":                   strings.Repeat("[", 20_000),
		"10.5.8.0-24":                   flannelVXLAN,
		"10.5.9.0-24":                   `{"PublicIP":"127.0.0.1"}`,
		"10.5.128.0-17":                 valueOf(host(4)),
		"10.5.1.0-24&fd00:5:1::-64":     valueOf(host(5)),
		"":                              valueOf(host(6)),
		"10.5.11.0-24/x":                valueOf(host(7)),
		"\x1b[2J":                       valueOf(host(8)),
		"10.5.12.0-99999999999999999-9": valueOf(host(9)),
	}
	for name, value := range poison {
		n.put(name, value, time.Hour)
	}
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285 gone", good) // the last good one, for the grace
	v := h.waitPeers(good)
	if len(v.Skipped) != len(poison) {
		t.Errorf("%d leases are skipped, want %d: %+v", len(v.Skipped), len(poison), v.Skipped)
	}
	for _, s := range v.Skipped {
		if _, ok := poison[s.Lease.Name]; !ok || s.Problem == "" {
			t.Errorf("skipped %q because of %q", s.Lease.Name, s.Problem)
		}
		if strings.ContainsAny(s.Problem, "\x1b\x00\n") {
			t.Errorf("problem %q would reach a terminal", s.Problem)
		}
	}
	n.put("10.5.2.0-24", valueOf(host(2)), time.Hour)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285", good)

	// The same, read at once instead of event by event. One of the keys shares
	// its subnet with the first host's.
	fresh := n.join(host(10))
	v = fresh.waitPeers("10.5.1.0/24 192.0.2.1:8285", "10.5.2.0/24 192.0.2.2:8285", good)
	if len(v.Skipped) != len(poison)-1 {
		t.Errorf("a new node skips %d leases, want %d: %+v", len(v.Skipped), len(poison)-1, v.Skipped)
	}
}

// A key beside subnets/ is no lease.
func TestForeignKeysAreIgnored(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.join(host(1))
	for _, key := range []string{"/config-old", "/other", "/subnets-meta", "/subnets"} {
		_, err := n.client.Put(n.rpc(), n.prefix+key, valueOf(host(2)))
		n.must(err)
	}
	n.put("10.5.3.0-24", valueOf(host(3)), time.Hour)
	if v := h.waitPeers("10.5.3.0/24 192.0.2.3:8285"); len(v.Skipped) > 0 {
		t.Errorf("skipped %+v, want nothing", v.Skipped)
	}
}

// Two networks in one etcd do not see each other, though one's prefix begins
// with the other's.
func TestTwoNetworks(t *testing.T) {
	t.Parallel()
	a := newNetwork(t, wideConfig)
	b := *a
	b.prefix += "-b"
	b.putConfig(wideConfig)
	one, two := a.join(host(1), previous("10.5.7.0/24")), b.join(host(2), previous("10.5.7.0/24"))
	if one.own.Name != two.own.Name {
		t.Fatalf("holds %s and %s, want the same subnet in each network", one.own.Name, two.own.Name)
	}
	a.put("10.5.3.0-24", valueOf(host(3)), time.Hour)
	one.waitPeers("10.5.3.0/24 192.0.2.3:8285")
	two.waitPeers()
}

// Many changes in little time: the last state is what counts.
func TestManyPeersAtOnce(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.join(host(1), previous("10.5.255.0/24"))
	const peers = 200
	var want []string
	for i := range peers {
		id := host(2)
		for round := range 3 {
			id.Port = uint16(9000 + round)
			n.put(fmt.Sprintf("10.5.%d.0-24", i+1), valueOf(id), 0)
		}
		want = append(want, fmt.Sprintf("10.5.%d.0/24 192.0.2.2:9002", i+1))
	}
	h.waitPeers(want...)
}
