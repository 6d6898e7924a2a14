package clidoc

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Reference is what a page about all of a program says.
type Reference struct {
	Program Page
	Intro   string // Markdown, under the title
	Shared  Group  // told after the commands
	Like    string // the command, as "twill run", to whose flags those lead that have all of them too
	Exits   []Exit
	Files   []File
}

// Group is flags that several commands have, to be told once.
type Group struct {
	Title  string
	Flags  []Flag
	anchor string // where they are told
}

// NewGroup makes a Group of flags.
func NewGroup(title string, list []cli.Flag) Group {
	return Group{Title: title, Flags: flags(list), anchor: strings.ToLower(strings.ReplaceAll(title, " ", "-"))}
}

// File is a file or directory that the program reads or makes.
type File struct {
	Path    string
	Meaning string
}

// Markdown writes the page of r: each command with its flags, the exit codes, the files.
func Markdown(w io.Writer, r Reference) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Reference\n\n%s\n\n## Commands\n\n| command | what it does |\n|---|---|\n", strings.TrimSpace(r.Intro))
	each(r.Program.Commands, func(c Page) {
		if len(c.Commands) == 0 {
			fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.line(), c.Name(), cell(c.Usage))
		}
	})
	told := []Group{r.like(), r.Shared}
	each(r.Program.Commands, func(c Page) { markdownCommand(&b, c, told) })
	fmt.Fprintf(&b, "\n## %s\n", r.Shared.Title)
	markdownFlags(&b, r.Shared.Flags)

	b.WriteString("\n## Exit codes\n\n| code | meaning |\n|---|---|\n")
	for _, e := range r.Exits {
		fmt.Fprintf(&b, "| %d | %s |\n", e.Code, cell(e.Meaning))
	}
	b.WriteString("\n## Files\n\n| path | what |\n|---|---|\n")
	for _, f := range r.Files {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.Path, cell(f.Meaning))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// like is the group of the flags of the command Like.
func (r Reference) like() Group {
	g := Group{Title: "options of " + r.Like}
	each(r.Program.Commands, func(c Page) {
		if c.line() == r.Like {
			g.Flags, g.anchor = c.Flags, c.Name()
		}
	})
	return g
}

func each(pages []Page, visit func(Page)) {
	for _, p := range pages {
		visit(p)
		each(p.Commands, visit)
	}
}

// markdownCommand writes about c; of the flags that are told elsewhere it says where.
func markdownCommand(b *strings.Builder, c Page, told []Group) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n", c.line(), plain(sentence(c.Usage)))
	if len(c.Commands) > 0 {
		return // its subcommands follow
	}
	synopsis := c.line()
	if len(c.Flags) > 0 {
		synopsis += " [OPTION]..."
	}
	if c.Args != "" {
		synopsis += " " + c.Args
	}
	fmt.Fprintf(b, "\n```\n%s\n```\n", synopsis)
	if c.Description != "" {
		b.WriteString("\n")
		markdownParagraphs(b, c.Description)
	}
	own, elsewhere := c.Flags, ""
	for _, g := range told {
		if rest, has := without(own, g.Flags); has && g.anchor != c.Name() {
			own, elsewhere = rest, elsewhere+fmt.Sprintf("\nAlso the [%s](#%s).\n", strings.ToLower(g.Title), g.anchor)
		}
	}
	if len(own) > 0 {
		markdownFlags(b, own)
	}
	b.WriteString(elsewhere)
}

// without returns list without those of shared, if it has all of them.
func without(list, shared []Flag) (rest []Flag, has bool) {
	isShared := func(f Flag) bool {
		return slices.ContainsFunc(shared, func(s Flag) bool { return slices.Equal(s.Names, f.Names) })
	}
	rest = slices.DeleteFunc(slices.Clone(list), isShared)
	if len(shared) == 0 || len(list)-len(rest) < len(shared) {
		return list, false
	}
	return rest, true
}

// markdownFlags writes the table of flags.
func markdownFlags(b *strings.Builder, list []Flag) {
	b.WriteString("\n| option | what | default | variables |\n|---|---|---|---|\n")
	for _, f := range list {
		names := "`" + strings.TrimSpace(strings.Join(f.dashed(), "`, `")+" "+f.Value) + "`"
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", names, cell(f.Usage), value(f.Default), code(f.Env))
	}
}

// value makes a default one of code, unless it is in words.
func value(s string) string {
	if s == "" || strings.Contains(s, " ") {
		return cell(s)
	}
	return code([]string{s})
}

// markdownParagraphs writes a description; what begins with blanks is a block of code.
func markdownParagraphs(b *strings.Builder, s string) {
	for i, p := range strings.Split(strings.Trim(s, "\n"), "\n\n") {
		if i > 0 {
			b.WriteString("\n")
		}
		if strings.HasPrefix(p, " ") {
			fmt.Fprintf(b, "```\n%s\n```\n", strings.ReplaceAll(p, "\n  ", "\n")[2:])
			continue
		}
		fmt.Fprintf(b, "%s\n", plain(p))
	}
}

func code(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "`" + strings.Join(names, "`, `") + "`"
}

var markdownEscaper = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", "&lt;", "[", `\[`)

// plain makes s plain text in Markdown.
func plain(s string) string { return markdownEscaper.Replace(s) }

// cell makes s plain text in the cell of a table.
func cell(s string) string { return strings.ReplaceAll(plain(s), "|", `\|`) }
