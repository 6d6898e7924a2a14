package clidoc

import (
	"fmt"
	"io"
	"strings"
)

// Bash writes a completion for bash(1): commands, flags, and the paths that are values of flags. It needs no
// bash-completion package.
func Bash(w io.Writer, p Page) error {
	var b strings.Builder
	name := p.Path[0]
	fmt.Fprintf(&b, "# bash completion for %s, made by `%s completion bash`\n", name, name)
	fmt.Fprintf(&b, "_%s() {\n", name)
	b.WriteString("\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} at='' i word words='' files=''\n")
	b.WriteString("\tfor ((i = 1; i < COMP_CWORD; i++)); do\n")
	b.WriteString("\t\tword=${COMP_WORDS[i]}\n")
	b.WriteString("\t\tcase \"$at $word\" in\n")
	fmt.Fprintf(&b, "\t\t%s) at+=\" $word\" ;;\n\t\tesac\n\tdone\n", strings.Join(bashPaths(p), " | "))
	b.WriteString("\tcase $at in\n")
	bashCommand(&b, p)
	b.WriteString("\tesac\n")
	b.WriteString("\t[ -n \"$files\" ] && { compopt -o filenames; mapfile -t COMPREPLY < <(compgen \"$files\" -- \"$cur\"); return; }\n")
	b.WriteString("\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n")
	fmt.Fprintf(&b, "}\ncomplete -F _%s %s\n", name, name)
	_, err := io.WriteString(w, b.String())
	return err
}

// bashPaths are the commands and subcommands as the completion collects them: " config get", quoted.
func bashPaths(p Page) []string {
	var list []string
	for _, c := range p.Commands {
		list = append(list, bashPath(c))
		list = append(list, bashPaths(c)...)
	}
	return list
}

func bashPath(p Page) string {
	path := strings.Join(p.Path[1:], " ")
	if path != "" {
		path = " " + path
	}
	return `"` + path + `"`
}

// bashCommand writes one case: after a flag that takes a value, paths or nothing, else subcommands and flags.
func bashCommand(b *strings.Builder, p Page) {
	fmt.Fprintf(b, "\t%s)\n", bashPath(p))
	var words, files, dirs, values []string
	for _, c := range p.Commands {
		words = append(words, c.Path[len(c.Path)-1])
	}
	for _, f := range p.Flags {
		words = append(words, f.dashed()...)
		switch {
		case f.takesFile():
			files = append(files, f.dashed()...)
		case f.takesDir():
			dirs = append(dirs, f.dashed()...)
		case f.Value != "":
			values = append(values, f.dashed()...)
		}
	}
	words = append(words, "--help")
	fmt.Fprintf(b, "\t\twords='%s'\n", strings.Join(words, " "))
	if len(files)+len(dirs)+len(values) > 0 {
		b.WriteString("\t\tcase $prev in\n")
		for _, c := range []struct {
			flags  []string
			action string
		}{{files, "files=-f"}, {dirs, "files=-d"}, {values, "words=''"}} {
			if len(c.flags) > 0 {
				fmt.Fprintf(b, "\t\t%s) %s ;;\n", strings.Join(c.flags, " | "), c.action)
			}
		}
		b.WriteString("\t\tesac\n")
	}
	b.WriteString("\t\t;;\n")
	for _, c := range p.Commands {
		bashCommand(b, c)
	}
}
