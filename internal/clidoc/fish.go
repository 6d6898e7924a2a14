package clidoc

import (
	"fmt"
	"io"
	"strings"
)

// Fish writes a completion for fish(1).
func Fish(w io.Writer, p Page) error {
	var b strings.Builder
	name := p.Path[0]
	fmt.Fprintf(&b, "# fish completion for %s, made by `%s completion fish`\n", name, name)
	fmt.Fprintf(&b, "complete -c %s -f\n", name)
	fishCommand(&b, p)
	_, err := io.WriteString(w, b.String())
	return err
}

// fishCommand writes a command's subcommands and flags, each under the condition that the command was typed.
func fishCommand(b *strings.Builder, p Page) {
	name := p.Path[0]
	for _, c := range p.Commands {
		fmt.Fprintf(b, "complete -c %s -n %s -a %s -d %s\n", name, quote(fishCondition(p)), c.Path[len(c.Path)-1], fishQuote(c.Usage))
	}
	for _, f := range p.Flags {
		for _, n := range f.Names {
			kind := "-l"
			if len(n) == 1 {
				kind = "-s"
			}
			fmt.Fprintf(b, "complete -c %s -n %s %s %s%s -d %s\n", name, quote(fishCondition(p)), kind, n, fishValue(f), fishQuote(f.Usage))
		}
	}
	for _, c := range p.Commands {
		fishCommand(b, c)
	}
}

func fishCondition(p Page) string {
	if len(p.Path) == 1 {
		return "__fish_use_subcommand"
	}
	var conditions []string
	for _, word := range p.Path[1:] {
		conditions = append(conditions, "__fish_seen_subcommand_from "+word)
	}
	for _, c := range p.Commands { // its own subcommands only as long as none is there
		conditions = append(conditions, "not __fish_seen_subcommand_from "+c.Path[len(c.Path)-1])
	}
	return strings.Join(conditions, "; and ")
}

func fishValue(f Flag) string {
	switch {
	case f.takesFile():
		return " -r -F"
	case f.takesDir():
		return " -x -a '(__fish_complete_directories)'"
	case f.Value != "":
		return " -x"
	}
	return ""
}

// fishQuote makes s one word of fish, whose single quotes know two escapes.
func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
