package clidoc

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// Page is one command, or the program itself, with all that its help says.
type Page struct {
	Path        []string // program, command, subcommand
	Usage       string   // one line
	Description string   // lines as the help prints them; blank lines part paragraphs
	Args        string   // synopsis of the arguments; "": takes none
	Flags       []Flag
	Commands    []Page
}

// Flag is one flag of a command.
type Flag struct {
	Names   []string // without dashes, the long one first
	Value   string   // placeholder of the value; "": a switch
	Usage   string
	Default string // "": none worth telling
	Env     []string
}

// Program reads all that app knows about itself. Hidden commands and flags stay hidden.
func Program(app *cli.App) Page {
	return Page{
		Path:     []string{app.Name},
		Usage:    app.Usage,
		Args:     "COMMAND",
		Commands: pages([]string{app.Name}, app.Commands),
	}
}

func pages(parent []string, commands []*cli.Command) []Page {
	var list []Page
	for _, c := range commands {
		if c.Hidden {
			continue
		}
		path := append(parent[:len(parent):len(parent)], c.Name)
		list = append(list, Page{
			Path:        path,
			Usage:       c.Usage,
			Description: c.Description,
			Args:        strings.TrimSpace(c.ArgsUsage),
			Flags:       flags(c.Flags),
			Commands:    pages(path, c.Subcommands),
		})
	}
	return list
}

func flags(all []cli.Flag) []Flag {
	var list []Flag
	for _, f := range all {
		doc, ok := f.(cli.DocGenerationFlag)
		if visible, can := f.(cli.VisibleFlag); !ok || can && !visible.IsVisible() {
			continue
		}
		value, usage := splitUsage(doc.GetUsage())
		if !doc.TakesValue() {
			value = ""
		} else if value == "" {
			value = "VALUE"
		}
		list = append(list, Flag{Names: f.Names(), Value: value, Usage: usage, Default: defaultOf(doc), Env: doc.GetEnvVars()})
	}
	return list
}

// splitUsage takes the placeholder, which stands in backquotes, out of a flag's usage.
func splitUsage(usage string) (placeholder, plain string) {
	before, rest, found := strings.Cut(usage, "`")
	if !found {
		return "", usage
	}
	placeholder, after, _ := strings.Cut(rest, "`")
	return placeholder, before + placeholder + after
}

func defaultOf(doc cli.DocGenerationFlag) string {
	text := strings.Trim(doc.GetDefaultText(), `"`) // quoted if it is a string flag's
	if !doc.TakesValue() && text == "false" {
		return ""
	}
	return text
}

// Name is the page's name as a manual page: twill-config.
func (p Page) Name() string { return strings.Join(p.Path, "-") }

// line is the page's command line: twill config.
func (p Page) line() string { return strings.Join(p.Path, " ") }

// takesFile reports whether the flag's value is a path.
func (f Flag) takesFile() bool { return f.Value == "FILE" }

// takesDir reports whether the flag's value is a directory.
func (f Flag) takesDir() bool { return f.Value == "DIR" }

// dashed are the flag's names as they are typed; cli takes a long name with one dash too, but nobody writes it so.
func (f Flag) dashed() []string {
	names := make([]string, len(f.Names))
	for i, n := range f.Names {
		names[i] = "--" + n
		if len(n) == 1 {
			names[i] = "-" + n
		}
	}
	return names
}
