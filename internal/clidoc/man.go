package clidoc

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Man writes the manual page of p in the man(7) macros. Subcommands are sections of their command's page. release is the
// program's version; seeAlso are pages as "twill.service(8)".
func Man(w io.Writer, p Page, release string, exits []Exit, seeAlso []string) error {
	m := &roff{w: w}
	m.macro("TH", strings.ToUpper(p.Name()), "1", "", p.Path[0]+" "+release, "User Commands")
	m.raw(".nh")   // names of variables stay in one piece,
	m.raw(".ad l") // however ragged the right side
	m.macro("SH", "NAME")
	m.text(p.Name() + " - " + p.Usage)
	m.macro("SH", "SYNOPSIS")
	m.synopsis(p)
	if p.Description != "" {
		m.macro("SH", "DESCRIPTION")
		m.paragraphs(p.Description)
	}
	m.commands(p)
	if len(p.Flags) > 0 {
		m.macro("SH", "OPTIONS")
		m.flags(p.Flags)
	}
	m.macro("SH", "EXIT STATUS")
	for _, e := range exits {
		m.macro("TP")
		m.text(fmt.Sprint(e.Code))
		m.text(e.Meaning)
	}
	if len(seeAlso) > 0 {
		m.macro("SH", "SEE ALSO")
		m.text(strings.Join(seeAlso, ", "))
	}
	return m.err
}

// Exit is one exit code of the program.
type Exit struct {
	Code    int
	Meaning string
}

// commands lists the program's commands by name, and a command's subcommands in full.
func (m *roff) commands(p Page) {
	if len(p.Commands) == 0 {
		return
	}
	m.macro("SH", "COMMANDS")
	for _, c := range p.Commands {
		m.macro("TP")
		if len(p.Path) == 1 {
			m.macro("BR", c.Name(), "(1)")
			m.text(sentence(c.Usage))
			continue
		}
		m.synopsis(c)
		m.text(sentence(c.Usage))
		if c.Description != "" {
			m.macro("IP")
			m.paragraphs(c.Description)
		}
		if len(c.Flags) > 0 {
			m.macro("RS")
			m.flags(c.Flags)
			m.macro("RE")
		}
	}
}

func (m *roff) synopsis(p Page) {
	line := `\fB` + escape(p.line()) + `\fR`
	if len(p.Flags) > 0 {
		line += ` [\fIOPTION\fR]...`
	}
	if p.Args != "" {
		line += " " + escape(p.Args)
	} else if len(p.Commands) > 0 {
		line += ` \fICOMMAND\fR`
	}
	m.raw(line)
}

func (m *roff) flags(flags []Flag) {
	for _, f := range flags {
		m.macro("TP")
		var names []string
		for _, n := range f.dashed() {
			names = append(names, `\fB`+escape(n)+`\fR`)
		}
		head := strings.Join(names, ", ")
		if f.Value != "" {
			head += ` \fI` + escape(f.Value) + `\fR`
		}
		m.raw(head)
		m.text(sentence(f.Usage))
		if f.Default != "" {
			m.raw("Default: " + escape(f.Default) + ".")
		}
		if len(f.Env) > 0 {
			m.raw("Environment: " + escape(strings.Join(f.Env, ", ")) + ".")
		}
	}
}

// sentence makes a line of help one of prose.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:] + "."
}

// roff writes lines of man(7) and keeps the first error.
type roff struct {
	w   io.Writer
	err error
}

func (m *roff) raw(line string) {
	if m.err == nil {
		_, m.err = fmt.Fprintln(m.w, line)
	}
}

// macro writes a request with its arguments in quotes.
func (m *roff) macro(name string, args ...string) {
	line := "." + name
	for _, a := range args {
		line += ` "` + strings.ReplaceAll(escape(a), `"`, `\(dq`) + `"`
	}
	m.raw(line)
}

func (m *roff) text(s string) {
	for line := range strings.SplitSeq(s, "\n") {
		m.raw(escape(line))
	}
}

// paragraphs writes text whose paragraphs are parted by blank lines; lines that begin with blanks stay as they are.
func (m *roff) paragraphs(s string) {
	for i, p := range strings.Split(strings.Trim(s, "\n"), "\n\n") {
		if i > 0 {
			m.macro("PP")
		}
		asIs := strings.HasPrefix(p, " ")
		if asIs {
			m.macro("nf")
		}
		m.text(p)
		if asIs {
			m.macro("fi")
		}
	}
}

var escaper = strings.NewReplacer(`\`, `\e`, "-", `\-`)

// escape makes s plain text in roff: a line that begins with a dot or quote is not a request, a dash can be copied.
func escape(s string) string {
	s = escaper.Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
