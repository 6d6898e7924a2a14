package routes

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tool is the one iptables in PATH: a script that notes its arguments and
// then runs the real program.
type tool struct {
	dir     string
	program string // absolute path of the real one
}

// withIptables runs f with each variant of iptables, each in a namespace of
// its own.
func withIptables(t *testing.T, f func(t *testing.T, ipt tool)) {
	for _, variant := range []string{"nft", "legacy"} {
		t.Run(variant, func(t *testing.T) {
			newNamespace(t)
			program, err := exec.LookPath("iptables-" + variant)
			noError(t, err)
			ipt := tool{dir: t.TempDir(), program: program}
			ipt.script(t, fmt.Sprintf(`exec %s "$@"`, program))
			t.Setenv("PATH", ipt.dir)
			f(t, ipt)
		})
	}
}

// script makes iptables note its arguments and then do what body says. It
// replaces the program at once: a call in between finds the old or the new.
func (i tool) script(t *testing.T, body string) {
	t.Helper()
	text := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s/calls\n%s\n", i.dir, body)
	noError(t, os.WriteFile(i.dir+"/new", []byte(text), 0o755))
	noError(t, os.Rename(i.dir+"/new", i.dir+"/iptables"))
}

// calls returns the arguments of all calls so far, one call a line.
func (i tool) calls(t *testing.T) []string {
	t.Helper()
	calls, err := os.ReadFile(filepath.Join(i.dir, "calls"))
	noError(t, err)
	return strings.Split(strings.TrimSpace(string(calls)), "\n")
}

// writes returns those of the calls that change something.
func (i tool) writes(t *testing.T) []string {
	return slices.DeleteFunc(i.calls(t), func(call string) bool {
		return strings.Contains(call, " -S ") || strings.HasPrefix(call, "--version")
	})
}

// do runs the real iptables, unnoted.
func (i tool) do(t *testing.T, args string) string {
	t.Helper()
	return run(t, i.program, strings.Fields(args)...)
}

// dump lists both tables.
func (i tool) dump(t *testing.T) string {
	t.Helper()
	return i.do(t, "-t nat -S") + i.do(t, "-t filter -S")
}

// chain lists the rules of one chain without "-A chain".
func (i tool) chain(t *testing.T, table, name string) (rules []string) {
	t.Helper()
	for line := range strings.Lines(i.do(t, "-t "+table+" -S "+name)) {
		if r, found := strings.CutPrefix(strings.TrimSpace(line), "-A "+name+" "); found {
			rules = append(rules, r)
		}
	}
	return rules
}

var testFirewall = FirewallConfig{
	Device:     "twill0",
	Network:    netip.MustParsePrefix("10.5.0.0/16"),
	Subnet:     netip.MustParsePrefix("10.5.72.1/24"),
	Port:       8285,
	Masquerade: true,
	Forward:    true,
	Log:        discard,
}

// mustApply applies cfg and checks that a second time writes nothing.
func mustApply(t *testing.T, ipt tool, cfg FirewallConfig) *Firewall {
	t.Helper()
	f, err := NewFirewall(cfg)
	noError(t, err)
	noError(t, f.Apply())
	before := len(ipt.writes(t))
	noError(t, f.Apply())
	if again := ipt.writes(t)[before:]; len(again) > 0 {
		t.Fatalf("second Apply wrote:\n%s", strings.Join(again, "\n"))
	}
	return f
}

// wantRules checks a chain against rules given in full.
func wantRules(t *testing.T, ipt tool, table, name string, want ...string) {
	t.Helper()
	if got := ipt.chain(t, table, name); !slices.Equal(got, want) {
		t.Errorf("table %s, chain %s:\n%s\nwant:\n%s", table, name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// wantTestRules checks for the chains and jumps of testFirewall, alone.
func wantTestRules(t *testing.T, ipt tool) {
	t.Helper()
	wantRules(t, ipt, "nat", "POSTROUTING", "-j TWILL-MASQ-twill0")
	wantRules(t, ipt, "nat", "TWILL-MASQ-twill0",
		"-m mark --mark 0x4000/0x4000 -j RETURN",
		"-s 10.5.72.0/24 -d 10.5.0.0/16 -j RETURN",
		"-s 10.5.0.0/16 -d 10.5.72.0/24 -j RETURN",
		"! -s 10.5.0.0/16 -d 10.5.72.0/24 -j RETURN",
		"-s 10.5.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
		"! -s 10.5.0.0/16 -d 10.5.0.0/16 -j MASQUERADE --random-fully")
	wantRules(t, ipt, "filter", "FORWARD", "-j TWILL-FWD-twill0")
	wantRules(t, ipt, "filter", "TWILL-FWD-twill0",
		"-s 10.5.0.0/16 ! -d 10.5.0.0/16 -p udp -m udp --dport 8285 -j DROP", "-s 10.5.0.0/16 -j ACCEPT", "-d 10.5.0.0/16 -j ACCEPT")
}
