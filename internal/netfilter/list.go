package netfilter

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// A Table is the filter table of one iptables variant.
type Table struct {
	Program string // that lists and changes it
	Ruleset
}

// Filters lists the filter table of every iptables variant that has one: a packet
// has to pass them all. Without an iptables program there is none.
func Filters(ctx context.Context) ([]Table, error) {
	var tables []Table
	for _, program := range programs(ctx) {
		out, err := exec.CommandContext(ctx, program, "-w", "5", "-S").CombinedOutput()
		if err != nil {
			return tables, fmt.Errorf("%s -S: %w: %s", program, err, strings.TrimSpace(string(out)))
		}
		tables = append(tables, Table{Program: program, Ruleset: Parse(string(out))})
	}
	return tables, nil
}

// programs are iptables, and the other variant where the kernel has rules of it,
// too. To list the legacy tables where there are none would make them.
func programs(ctx context.Context) []string {
	if _, err := exec.LookPath("iptables"); err != nil {
		return nil
	}
	found := []string{"iptables"}
	version, err := exec.CommandContext(ctx, "iptables", "--version").Output()
	if err != nil {
		return found
	}
	other := "iptables-nft"
	if strings.Contains(string(version), "nf_tables") {
		other = "iptables-legacy"
		names, _ := os.ReadFile("/proc/net/ip_tables_names")
		if !strings.Contains(string(names), "filter") {
			return found
		}
	}
	if _, err := exec.LookPath(other); err == nil {
		found = append(found, other)
	}
	return found
}

// Droppers are the chains of nftables' own tables, not iptables', that drop what no
// rule of theirs accepts, each as nft names it: family, table, chain.
type Droppers struct {
	Input   []string // of what comes to this host
	Forward []string // of what it passes on
}

// FindDroppers asks nft. Without an nft program there are none to see.
func FindDroppers(ctx context.Context) (Droppers, error) {
	if _, err := exec.LookPath("nft"); err != nil {
		return Droppers{}, nil
	}
	out, err := exec.CommandContext(ctx, "nft", "-j", "list", "chains").Output()
	if err != nil {
		return Droppers{}, fmt.Errorf("nft list chains: %w", err)
	}
	return parseDroppers(out)
}

// parseDroppers reads nft's JSON, libnftables-json(5).
func parseDroppers(raw []byte) (droppers Droppers, err error) {
	var listing struct {
		Nftables []struct {
			Chain *struct{ Family, Table, Name, Hook, Policy string }
		}
	}
	if err := json.Unmarshal(raw, &listing); err != nil {
		return Droppers{}, fmt.Errorf("read nft's chains: %w", err)
	}
	for _, entry := range listing.Nftables {
		c := entry.Chain
		if c == nil || c.Policy != "drop" || c.Family != "ip" && c.Family != "inet" {
			continue
		}
		if c.Family == "ip" && c.Table == "filter" && c.Name == strings.ToUpper(c.Hook) {
			continue // iptables-nft's
		}
		name := fmt.Sprintf("%s %s %s", c.Family, c.Table, c.Name)
		switch c.Hook {
		case "input":
			droppers.Input = append(droppers.Input, name)
		case "forward":
			droppers.Forward = append(droppers.Forward, name)
		}
	}
	return droppers, nil
}
