package subnet

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

func initial(t *testing.T, network string) *Config {
	t.Helper()
	c, err := DefaultConfig(netip.MustParsePrefix(network))
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestNoConfig(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "")
	_, err := n.dial(host(1)).manager.Configure(n.rpc(), nil)
	if !errors.Is(err, ErrNoConfig) {
		t.Fatalf("%v, want ErrNoConfig", err)
	}
	for _, s := range []string{n.configKey(), n.store.server.Endpoint(), "twill config set", "--network"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
}

func TestBrokenConfig(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, `{"Network":"10.5.0.0/16","SubnetLen":99}`)
	for _, raw := range []string{`{"Network":"10.5.0.0/16","SubnetLen":99}`, "", "{"} {
		n.putConfig(raw)
		// With a broken config there is one: it is not written over.
		_, err := n.dial(host(1)).manager.Configure(n.rpc(), initial(t, "10.9.0.0/16"))
		if err == nil || errors.Is(err, ErrNoConfig) || !strings.Contains(err.Error(), n.configKey()) {
			t.Errorf("config %q: %v, want an error that names the key", raw, err)
		}
	}
}

func TestInitialConfigIsWrittenOnce(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "")
	networks := []string{"10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"}
	got := make([]Config, len(networks))
	nodes := make([]*node, len(networks))
	for i := range nodes {
		nodes[i] = n.dial(host(i + 1))
	}
	var all sync.WaitGroup
	for i, h := range nodes {
		all.Go(func() {
			var err error
			if got[i], err = h.manager.Configure(n.rpc(), initial(t, networks[i])); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wrote := 0
	for i, h := range nodes {
		if got[i] != got[0] {
			t.Errorf("host %d runs with %s, host 1 with %s", i+1, got[i].Network, got[0].Network)
		}
		wrote += len(h.log.lines("wrote the network config"))
	}
	if wrote != 1 {
		t.Errorf("%d hosts say that they wrote the config, want 1", wrote)
	}
}

func TestExistingConfigWins(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	c, err := n.dial(host(1)).manager.Configure(n.rpc(), initial(t, "10.9.0.0/16"))
	if err != nil || c.Network.String() != "10.5.0.0/16" {
		t.Fatalf("%s, %v; want the config that was there", c.Network, err)
	}
}

func TestReplaceConfig(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "")
	r := n.dial(host(1)).registry
	a := []byte(`{"Network":"10.1.0.0/16"}`)
	b := []byte(`{"Network":"10.2.0.0/16","EnableNFTables":true}`) // a field of Flannel's alone
	n.must(r.ReplaceConfig(n.rpc(), a, 0))
	before, err := r.Snapshot(n.rpc())
	n.must(err)
	n.must(r.ReplaceConfig(n.rpc(), b, before.ConfigRev))
	for _, stale := range []int64{0, before.ConfigRev} {
		err := r.ReplaceConfig(n.rpc(), a, stale)
		if err == nil || !strings.Contains(err.Error(), n.configKey()+" was changed by somebody else") {
			t.Errorf("over revision %d: %v, want a conflict", stale, err)
		}
	}
	now, err := r.Snapshot(n.rpc())
	n.must(err)
	if !bytes.Equal(now.Config, b) {
		t.Errorf("etcd has %s, want %s as it was given", now.Config, b)
	}
	if err := r.ReplaceConfig(n.rpc(), []byte(`{"Network":"10.2.0.0/31"}`), now.ConfigRev); err == nil {
		t.Error("an invalid config was written")
	}
}

// The answer to a write that succeeded is lost: to write again is no conflict.
func TestReplaceConfigWithLostAnswer(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "")
	h := n.dial(host(1))
	loseAnswers(t, h.registry, 1)
	n.must(h.registry.ReplaceConfig(n.rpc(), []byte(`{"Network":"10.1.0.0/16"}`), 0))
}

// The config that changes under a running node is said once, with what to do.
// What of the network config takes a restart is said once and kept in the view;
// a broken one changes nothing.
func TestConfigThatTakesARestart(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.join(host(1))
	problem := func(text string) {
		t.Helper()
		h.waitFor(text, func(v View) bool { return strings.Contains(v.ConfigProblem, text) })
		h.logged(text, 1)
	}
	n.putConfig(`{"Network":"10.6.0.0/16"}`)
	problem("restart twill to use it: Network 10.6.0.0/16")
	n.putConfig(`{"Network":"10.6.0.0/16"}`) // known
	n.putConfig("{")
	problem("not valid any more")
	_, err := n.client.Delete(n.rpc(), n.configKey())
	n.must(err)
	problem("was deleted")
	n.putConfig(`{ "Network" : "10.5.0.0/16" }`) // the same in other words
	h.waitFor("no problem", func(v View) bool { return v.ConfigProblem == "" })
	n.put("10.5.2.0-24", valueOf(host(2)), time.Hour)
	h.waitFor("the peer", func(v View) bool { return len(v.Peers) == 1 })
	if w := h.log.lines("level=WARN"); len(w) != 3 {
		t.Errorf("warnings %q, want three", w)
	}
	n.putConfig(`{"Network":"10.5.0.0/16","SubnetMax":"10.5.100.0"}`)
	problem("our own subnet 10.5.101.0/24: outside SubnetMin")
}

// What does not take one is in force at once.
func TestConfigChangesAtRunTime(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	unasked := host(1)
	unasked.Port = 0
	h := n.join(unasked)
	fixed := n.dial(host(3))
	n.put("10.5.2.0-24", flannelValue(host(2).PublicIP), 0)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285")
	n.putConfig(`{"Network":"10.5.0.0/16","SubnetMin":"10.5.50.0","Backend":{"Type":"udp","Port":9000}}`)
	v := h.waitPeers("10.5.2.0/24 192.0.2.2:9000")
	if v.Own != h.own || !strings.Contains(v.ConfigProblem, "Backend.Port 9000, while this host listens on 8285") {
		t.Errorf("own lease %+v, problem %q", v.Own, v.ConfigProblem)
	}
	// Another network's port is that of Flannel's hosts all the same.
	n.putConfig(`{"Network":"10.6.0.0/16","Backend":{"Type":"udp","Port":9001}}`)
	h.waitPeers("10.5.2.0/24 192.0.2.2:9001")
	n.putConfig(wideConfig)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285")
	h.waitFor("no problem", func(v View) bool { return v.ConfigProblem == "" })

	// A port that was asked for is nobody's problem.
	fixed.start()
	fixed.waitFor("the peers", func(v View) bool { return len(v.Peers) == 2 })
	n.putConfig(`{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":9000}}`)
	if v := fixed.waitFor("the port", func(v View) bool { return v.Peers[0].Endpoint.Port() == 9000 }); v.ConfigProblem != "" {
		t.Errorf("problem %q, want none", v.ConfigProblem)
	}
}
