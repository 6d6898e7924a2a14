package routes

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// chain is one iptables chain of ours and the jump that leads into it.
type chain struct {
	table   string
	builtin string // the chain of the kernel that holds the jump
	name    string
	rules   []rule // empty: neither chain nor jump shall exist
	place   func(others []string) span
}

// converge makes the kernel's chain and jump what c says, and reports whether
// it had to write. A new chain is filled before anything jumps to it.
func (c chain) converge(ipt *iptables.IPTables) (wrote bool, err error) {
	if len(c.rules) == 0 {
		return c.remove(ipt)
	}
	filled, err := c.fill(ipt)
	if err != nil {
		return filled, err
	}
	attached, err := c.attach(ipt)
	return filled || attached, err
}

// fill gives the chain the wanted rules. They go in front of the old ones,
// which are deleted afterwards from the end, so a packet in between meets the
// old rules or the new ones, never none.
func (c chain) fill(ipt *iptables.IPTables) (wrote bool, err error) {
	have, exists, err := listRules(ipt, c.table, c.name)
	if err != nil {
		return false, err
	}
	if !exists {
		if err := ipt.NewChain(c.table, c.name); err != nil {
			return false, fmt.Errorf("create chain %s in table %s: %w", c.name, c.table, err)
		}
	}
	if slices.EqualFunc(have, c.rules, func(listed string, r rule) bool { return listed == r.String() }) {
		return false, nil
	}
	for i, r := range c.rules {
		if err := ipt.Insert(c.table, c.name, i+1, r...); err != nil {
			return true, fmt.Errorf("insert %q into chain %s of table %s: %w", r, c.name, c.table, err)
		}
	}
	for n := len(c.rules) + len(have); n > len(c.rules); n-- {
		if err := ipt.DeleteById(c.table, c.name, n); err != nil {
			return true, fmt.Errorf("delete old rule %d of chain %s of table %s: %w", n, c.name, c.table, err)
		}
	}
	return true, nil
}

// attach leaves exactly one jump to the chain, at a place where it works.
//
// A misplaced jump is deleted before the new one is inserted. The other order
// would need a deletion by number, and in a chain that others write to at the
// same time that could hit a rule of theirs.
func (c chain) attach(ipt *iptables.IPTables) (wrote bool, err error) {
	rules, exists, err := listRules(ipt, c.table, c.builtin)
	if err != nil {
		return false, err
	}
	if !exists {
		return false, fmt.Errorf("table %s of iptables has no chain %s", c.table, c.builtin)
	}
	at := slices.Index(rules, c.jump().String())
	others := slices.DeleteFunc(slices.Clone(rules), c.isJump)
	want := c.place(others)
	jumps := len(rules) - len(others)
	if jumps == 1 && want.from <= at && at <= want.to {
		return false, nil
	}
	if err := c.detach(ipt, jumps); err != nil {
		return true, err
	}
	if err := ipt.Insert(c.table, c.builtin, want.insert+1, c.jump()...); err != nil {
		return true, fmt.Errorf("insert jump to %s into chain %s of table %s: %w", c.name, c.builtin, c.table, err)
	}
	return true, nil
}

// remove deletes the jumps and the chain. Whatever is absent is fine.
func (c chain) remove(ipt *iptables.IPTables) (wrote bool, err error) {
	_, exists, err := listRules(ipt, c.table, c.name)
	if err != nil || !exists {
		return false, err // a jump cannot outlive its chain
	}
	rules, _, err := listRules(ipt, c.table, c.builtin)
	if err != nil {
		return false, err
	}
	jumps := len(rules) - len(slices.DeleteFunc(slices.Clone(rules), c.isJump))
	if err := c.detach(ipt, jumps); err != nil {
		return true, err
	}
	if err := ipt.ClearAndDeleteChain(c.table, c.name); err != nil {
		return true, fmt.Errorf("delete chain %s of table %s: %w", c.name, c.table, err)
	}
	return true, nil
}

// detach deletes n jumps.
func (c chain) detach(ipt *iptables.IPTables, n int) error {
	for range n {
		if err := ipt.Delete(c.table, c.builtin, c.jump()...); err != nil && !isAbsent(err) {
			return fmt.Errorf("delete jump to %s from chain %s of table %s: %w", c.name, c.builtin, c.table, err)
		}
	}
	return nil
}

func (c chain) jump() rule { return rule{"-j", c.name} }

func (c chain) isJump(listed string) bool { return listed == c.jump().String() }

// listRules returns the rules of a chain without the leading "-A chain", and
// whether the chain exists.
func listRules(ipt *iptables.IPTables, table, name string) (rules []string, exists bool, err error) {
	lines, err := ipt.List(table, name)
	if isAbsent(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("list chain %s of table %s: %w", name, table, err)
	}
	for _, line := range lines {
		// The other lines declare the chain (-N, -P) or warn (#).
		if r, found := strings.CutPrefix(line, "-A "+name+" "); found {
			rules = append(rules, r)
		}
	}
	return rules, true, nil
}

// isAbsent reports whether iptables failed because there is no such chain,
// rule or table. The nft variant answers a listing of an unknown chain with
// status 1 and a text about compatibility.
func isAbsent(err error) bool {
	failure, ok := errors.AsType[*iptables.Error](err)
	return ok && (failure.ExitStatus() == 1 || failure.IsNotExist())
}
