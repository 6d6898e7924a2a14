package routes

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestFirewallApply(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		mustApply(t, ipt, testFirewall)
		wantTestRules(t, ipt)
	})
}

// Whatever somebody does to our chains and jumps, Apply makes good.
func TestFirewallRepairs(t *testing.T) {
	damages := map[string][]string{
		"chain flushed":       {"-t nat -F TWILL-MASQ-twill0"},
		"jump deleted":        {"-t nat -D POSTROUTING -j TWILL-MASQ-twill0", "-D FORWARD -j TWILL-FWD-twill0"},
		"everything flushed":  {"-t nat -F", "-F"},
		"everything deleted":  {"-t nat -F", "-t nat -X", "-F", "-X"},
		"rule deleted":        {"-t nat -D TWILL-MASQ-twill0 3"},
		"rule added in front": {"-I TWILL-FWD-twill0 -j DROP"},
		"rule added behind":   {"-t nat -A TWILL-MASQ-twill0 -s 192.0.2.1/32 -j RETURN"},
		"rules swapped":       {"-D TWILL-FWD-twill0 1", "-A TWILL-FWD-twill0 -s 10.5.0.0/16 -j ACCEPT"},
		"rule replaced":       {"-t nat -R TWILL-MASQ-twill0 5 -s 10.5.0.0/16 -j MASQUERADE"},
		"jumps doubled":       {"-t nat -I POSTROUTING -j TWILL-MASQ-twill0", "-A FORWARD -j TWILL-FWD-twill0", "-A FORWARD -j TWILL-FWD-twill0"},
	}
	withIptables(t, func(t *testing.T, ipt tool) {
		mustApply(t, ipt, testFirewall)
		good := ipt.dump(t)
		for name, commands := range damages {
			for _, c := range commands {
				ipt.do(t, c)
			}
			if ipt.dump(t) == good {
				t.Fatalf("%s: no damage done", name)
			}
			mustApply(t, ipt, testFirewall)
			if t.Failed() || !slices.Equal(sorted(good), sorted(ipt.dump(t))) {
				t.Errorf("%s: not repaired:\n%s", name, ipt.dump(t))
			}
			wantTestRules(t, ipt)
		}
	})
}

// sorted are the lines of a dump; the order of chain declarations depends on
// their age in the nft variant.
func sorted(dump string) []string { return slices.Sorted(strings.Lines(dump)) }

// dockerRules are a host's with Docker, a policy of DROP and rules of an
// administrator.
var dockerRules = []string{
	"-P FORWARD DROP",
	"-N DOCKER", "-N DOCKER-USER", "-N DOCKER-ISOLATION-STAGE-1",
	"-A FORWARD -j DOCKER-USER",
	"-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
	"-A FORWARD -o docker0 -j DOCKER",
	"-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
	"-A DOCKER-USER -s 192.0.2.0/24 -j DROP",
	"-A DOCKER-USER -j RETURN",
	"-t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
	"-t nat -A POSTROUTING -s 10.5.72.9/32 -o eth9 -j SNAT --to-source 198.18.0.9",
}

func TestFirewallLeavesOthersAlone(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		for _, c := range dockerRules {
			ipt.do(t, c)
		}
		before := ipt.dump(t)
		f := mustApply(t, ipt, testFirewall)
		wantRules(t, ipt, "filter", "FORWARD",
			"-j DOCKER-USER", "-j TWILL-FWD-twill0", "-j DOCKER-ISOLATION-STAGE-1", "-o docker0 -j DOCKER", "-i docker0 ! -o docker0 -j ACCEPT")
		wantRules(t, ipt, "nat", "POSTROUTING",
			"-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", "-s 10.5.72.9/32 -o eth9 -j SNAT --to-source 198.18.0.9", "-j TWILL-MASQ-twill0")

		noError(t, f.Remove())
		if after := ipt.dump(t); after != before {
			t.Errorf("before:\n%s\nafter Apply and Remove:\n%s", before, after)
		}
		noError(t, f.Remove()) // absent is fine
	})
}

// Docker inserts its jumps in front of all others when it starts. The jump
// follows it once, and nobody fights.
func TestFirewallDockerStartsLater(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		mustApply(t, ipt, testFirewall)
		for _, c := range []string{
			"-N DOCKER-FORWARD", "-N DOCKER-USER", "-A DOCKER-FORWARD -j DROP",
			"-I FORWARD -j DOCKER-FORWARD", "-I FORWARD -j DOCKER-USER",
		} {
			ipt.do(t, c)
		}
		mustApply(t, ipt, testFirewall)
		wantRules(t, ipt, "filter", "FORWARD", "-j DOCKER-USER", "-j TWILL-FWD-twill0", "-j DOCKER-FORWARD")

		// Others who want to be first are not fought either.
		ipt.do(t, "-I FORWARD -i eth9 -j ACCEPT")
		ipt.do(t, "-I FORWARD 3 -i eth8 -j ACCEPT")
		ipt.do(t, "-t nat -A POSTROUTING -o eth9 -j MASQUERADE")
		before := len(ipt.writes(t))
		mustApply(t, ipt, testFirewall)
		if writes := ipt.writes(t)[before:]; len(writes) > 0 {
			t.Errorf("wrote because of rules of others:\n%s", strings.Join(writes, "\n"))
		}
	})
}

// While a new subnet's rules replace the old ones, one complete set is always
// in force, with nothing but rules of the new set in front.
func TestFirewallChangedSubnet(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		mustApply(t, ipt, testFirewall)
		before := ipt.chain(t, "nat", "TWILL-MASQ-twill0")

		changed := testFirewall
		changed.Network = netip.MustParsePrefix("10.6.0.0/16")
		changed.Subnet = netip.MustParsePrefix("10.6.3.0/24")
		f, err := NewFirewall(changed)
		noError(t, err)
		states := ipt.dir + "/states"
		ipt.script(t, ipt.program+` "$@"; status=$?; { `+ipt.program+" -t nat -S TWILL-MASQ-twill0; echo; } >>"+states+"; exit $status")
		noError(t, f.Apply())
		after := ipt.chain(t, "nat", "TWILL-MASQ-twill0")

		allowed := map[string]bool{}
		for i := range after {
			allowed[strings.Join(slices.Concat(after[:i], before), "\n")] = true
		}
		for i := range len(before) + 1 {
			allowed[strings.Join(slices.Concat(after, before[:i]), "\n")] = true
		}
		seen := map[string]bool{}
		for state := range strings.SplitSeq(strings.TrimSpace(run(t, "/bin/cat", states)), "\n\n") {
			state = strings.ReplaceAll(strings.TrimPrefix(state, "-N TWILL-MASQ-twill0\n"), "-A TWILL-MASQ-twill0 ", "")
			if seen[state] = true; !allowed[state] {
				t.Errorf("in between the chain was\n%s", state)
			}
		}
		if want := len(before) + len(after) + 1; len(seen) != want {
			t.Errorf("saw %d different states, want %d", len(seen), want)
		}
		wantRules(t, ipt, "nat", "TWILL-MASQ-twill0", after...)
		if !strings.Contains(after[1], "10.6.3.0/24") {
			t.Errorf("second rule %q is not about the new subnet", after[1])
		}
		wantRules(t, ipt, "filter", "TWILL-FWD-twill0",
			"-s 10.6.0.0/16 ! -d 10.6.0.0/16 -p udp -m udp --dport 8285 -j DROP", "-s 10.6.0.0/16 -j ACCEPT", "-d 10.6.0.0/16 -j ACCEPT")
	})
}

// A kind of rules that is switched off is removed if an earlier run made it.
func TestFirewallSwitchedOff(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		empty := "-P PREROUTING ACCEPT\n-P INPUT ACCEPT\n-P OUTPUT ACCEPT\n-P POSTROUTING ACCEPT\n" +
			"-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n"
		cfg := testFirewall
		mustApply(t, ipt, cfg)
		cfg.Masquerade = false
		mustApply(t, ipt, cfg)
		if dump := ipt.do(t, "-t nat -S"); strings.Contains(dump, "TWILL") {
			t.Errorf("masquerade is off, but table nat has\n%s", dump)
		}
		wantRules(t, ipt, "filter", "FORWARD", "-j TWILL-FWD-twill0")

		cfg.Masquerade, cfg.Forward = true, false
		mustApply(t, ipt, cfg)
		if dump := ipt.do(t, "-S"); strings.Contains(dump, "TWILL") {
			t.Errorf("forward is off, but table filter has\n%s", dump)
		}
		wantRules(t, ipt, "nat", "POSTROUTING", "-j TWILL-MASQ-twill0")

		cfg.Masquerade = false
		mustApply(t, ipt, cfg)
		if got := sorted(ipt.dump(t)); !slices.Equal(got, sorted(empty)) {
			t.Errorf("both are off, but the tables have\n%s", ipt.dump(t))
		}
	})
}

func TestFirewallTwoDevices(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		other := testFirewall
		other.Device = "fifteen-bytes-x" // the longest chain names
		other.Network = netip.MustParsePrefix("10.6.0.0/16")
		other.Subnet = netip.MustParsePrefix("10.6.3.0/24")
		mustApply(t, ipt, other)
		alone := ipt.dump(t)
		mustApply(t, ipt, testFirewall)
		mustApply(t, ipt, other)
		wantRules(t, ipt, "filter", "FORWARD", "-j TWILL-FWD-twill0", "-j TWILL-FWD-fifteen-bytes-x")

		noError(t, RemoveFirewall("twill0"))
		if got := ipt.dump(t); got != alone {
			t.Errorf("after removal of the first device's:\n%s\nwant:\n%s", got, alone)
		}
		noError(t, RemoveFirewall("twill0")) // absent is fine
		noError(t, RemoveFirewall("fifteen-bytes-x"))
		if got := ipt.dump(t); strings.Contains(got, "TWILL") {
			t.Errorf("after removal of both:\n%s", got)
		}
	})
}

// A rule of somebody else that uses our chain is not ours to delete.
func TestFirewallRemoveChainInUse(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		f := mustApply(t, ipt, testFirewall)
		ipt.do(t, "-A FORWARD -i eth9 -j TWILL-FWD-twill0")
		wantError(t, f.Remove(), "TWILL-FWD-twill0", "filter")
		wantRules(t, ipt, "filter", "FORWARD", "-i eth9 -j TWILL-FWD-twill0")
		wantRules(t, ipt, "nat", "POSTROUTING") // the other chain is gone all the same
		ipt.do(t, "-F FORWARD")
		noError(t, f.Remove())
	})
}

// An iptables from before 1.6.2 knows no --random-fully.
func TestFirewallOldIptables(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		ipt.script(t, `case "$1" in --version) echo iptables v1.6.1; exit;; esac; exec `+ipt.program+` "$@"`)
		mustApply(t, ipt, testFirewall)
		rules := ipt.chain(t, "nat", "TWILL-MASQ-twill0")
		if want := "-s 10.5.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE"; rules[4] != want {
			t.Errorf("rule %q, want %q", rules[4], want)
		}
	})
}

func TestFirewallErrors(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		broken := map[string]func(*FirewallConfig){
			"device name":              func(c *FirewallConfig) { c.Device = "sixteen-bytes-xx" },
			"network 2001:db8::/32":    func(c *FirewallConfig) { c.Network = netip.MustParsePrefix("2001:db8::/32") },
			"network invalid Prefix":   func(c *FirewallConfig) { c.Network = netip.Prefix{} },
			"network 0.0.0.0/0":        func(c *FirewallConfig) { c.Network = netip.MustParsePrefix("0.0.0.0/0") },
			"subnet 10.6.0.0/24: want": func(c *FirewallConfig) { c.Subnet = netip.MustParsePrefix("10.6.0.0/24") },
			"subnet 10.0.0.0/8: want":  func(c *FirewallConfig) { c.Subnet = netip.MustParsePrefix("10.0.0.0/8") },
			"subnet invalid Prefix":    func(c *FirewallConfig) { c.Subnet = netip.Prefix{} },
		}
		for name, breakIt := range broken {
			cfg := testFirewall
			breakIt(&cfg)
			_, err := NewFirewall(cfg)
			wantError(t, err, "firewall", name)
		}
		wantError(t, RemoveFirewall("a b"), "device name")

		f, err := NewFirewall(testFirewall)
		noError(t, err)
		ipt.script(t, "echo the lock is taken >&2; exit 4")
		wantError(t, f.Apply(), "firewall", "TWILL-MASQ-twill0", "nat", "the lock is taken")
		wantError(t, f.Remove(), "firewall", "TWILL-MASQ-twill0", "nat", "the lock is taken")

		// One table that cannot be used costs the other nothing.
		ipt.script(t, `case "$*" in *nat*) echo no nat >&2; exit 4;; esac; exec `+ipt.program+` "$@"`)
		wantError(t, f.Apply(), "nat", "no nat")
		wantRules(t, ipt, "filter", "FORWARD", "-j TWILL-FWD-twill0")
	})
}

func TestFirewallWithoutIptables(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := NewFirewall(testFirewall); !errors.Is(err, ErrNoIptables) {
		t.Errorf("NewFirewall: %v, want ErrNoIptables", err)
	}
	if err := RemoveFirewall("twill0"); !errors.Is(err, ErrNoIptables) {
		t.Errorf("RemoveFirewall: %v, want ErrNoIptables", err)
	}
}

// A kernel without NAT is no reason to fail when no masquerading is asked
// for.
func TestFirewallWithoutNAT(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		ipt.script(t, `case "$*" in *"-t nat"*) echo "Table does not exist (do you need to insmod?)" >&2; exit 3;; esac; exec `+ipt.program+` "$@"`)
		cfg := testFirewall
		cfg.Masquerade = false
		f := mustApply(t, ipt, cfg)
		noError(t, f.Remove())

		cfg.Masquerade = true
		f, err := NewFirewall(cfg)
		noError(t, err)
		wantError(t, f.Apply(), "nat", "insmod")
	})
}
