package clidoc

import (
	"fmt"
	"io"
	"strings"
)

// Zsh writes a completion for zsh(1), to be found as _twill in fpath.
func Zsh(w io.Writer, p Page) error {
	var b strings.Builder
	name := p.Path[0]
	fmt.Fprintf(&b, "#compdef %s\n# zsh completion for %s, made by `%s completion zsh`\n\n", name, name, name)
	zshFunction(&b, p)
	fmt.Fprintf(&b, "%s \"$@\"\n", zshName(p))
	_, err := io.WriteString(w, b.String())
	return err
}

func zshName(p Page) string { return "_" + strings.Join(p.Path, "_") }

// zshFunction writes one function for each command; that of a command with subcommands calls theirs.
func zshFunction(b *strings.Builder, p Page) {
	for _, c := range p.Commands {
		zshFunction(b, c)
	}
	fmt.Fprintf(b, "%s() {\n", zshName(p))
	specs := []string{`'--help[show help]'`}
	for _, f := range p.Flags {
		specs = append(specs, zshFlag(f)...)
	}
	if len(p.Commands) == 0 {
		fmt.Fprintf(b, "\t_arguments \\\n\t\t%s\n}\n\n", strings.Join(specs, " \\\n\t\t"))
		return
	}
	specs = append(specs, `'1: :->command'`, `'*:: :->argument'`)
	b.WriteString("\tlocal line state\n")
	fmt.Fprintf(b, "\t_arguments -C \\\n\t\t%s\n", strings.Join(specs, " \\\n\t\t"))
	b.WriteString("\tcase $state in\n\tcommand)\n\t\tlocal -a commands=(\n")
	for _, c := range p.Commands {
		fmt.Fprintf(b, "\t\t\t%s\n", quote(strings.ReplaceAll(c.Path[len(c.Path)-1], ":", `\:`)+":"+c.Usage))
	}
	b.WriteString("\t\t)\n\t\t_describe command commands ;;\n\targument)\n\t\tcase $line[1] in\n")
	for _, c := range p.Commands {
		fmt.Fprintf(b, "\t\t%s) %s ;;\n", c.Path[len(c.Path)-1], zshName(c))
	}
	b.WriteString("\t\tesac ;;\n\tesac\n}\n\n")
}

var zshEscaper = strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`)

// zshFlag returns the flag's specs for _arguments, one for each name.
func zshFlag(f Flag) []string {
	var specs []string
	for _, name := range f.dashed() {
		spec := "*" + name + "[" + zshEscaper.Replace(f.Usage) + "]"
		switch {
		case f.takesFile():
			spec += ":" + f.Value + ":_files"
		case f.takesDir():
			spec += ":" + f.Value + ":_files -/"
		case f.Value != "":
			spec += ":" + zshEscaper.Replace(f.Value) + ": "
		}
		specs = append(specs, quote(spec))
	}
	return specs
}

// quote makes s one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
