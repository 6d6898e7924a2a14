package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"twill/internal/clidoc"
)

// Every command has a manual page with all its flags and their variables, and every completion knows them.
func TestManualAndCompletionsAreComplete(t *testing.T) {
	dir := t.TempDir()
	if err := newApp().Run([]string{"twill", "man", dir}); err != nil {
		t.Fatal(err)
	}
	completions := map[string]string{}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var b strings.Builder
		app := newApp()
		app.Writer = &b
		if err := app.Run([]string{"twill", "completion", shell}); err != nil {
			t.Fatal(err)
		}
		completions[shell] = b.String()
	}
	program := readPage(t, dir, "twill")
	for _, c := range newApp().Commands {
		if c.Hidden {
			continue
		}
		if !strings.Contains(program, "\n.BR \""+clidocName(c.Name)+"\" \"(1)\"\n") {
			t.Errorf("twill(1) does not list twill %s", c.Name)
		}
		checkDocumented(t, c, readPage(t, dir, "twill-"+c.Name), completions)
	}
}

func clidocName(command string) string { return strings.ReplaceAll("twill-"+command, "-", `\-`) }

func checkDocumented(t *testing.T, c *cli.Command, page string, completions map[string]string) {
	t.Helper()
	for shell, text := range completions {
		if !strings.Contains(text, c.Name) {
			t.Errorf("the completion for %s does not know %s", shell, c.Name)
		}
	}
	for _, f := range c.Flags {
		for _, name := range f.Names() {
			dashed := "--" + name
			if len(name) == 1 {
				dashed = "-" + name
			}
			if !strings.Contains(page, `\fB`+strings.ReplaceAll(dashed, "-", `\-`)+`\fR`) {
				t.Errorf("the manual page of %s lacks %s", c.Name, dashed)
			}
			for _, shell := range []string{"bash", "zsh"} {
				if !strings.Contains(completions[shell], dashed) {
					t.Errorf("the completion for %s lacks %s of %s", shell, dashed, c.Name)
				}
			}
			fish := " -l " + name
			if len(name) == 1 {
				fish = " -s " + name
			}
			if !strings.Contains(completions["fish"], fish) {
				t.Errorf("the completion for fish lacks %s of %s", dashed, c.Name)
			}
		}
		for _, env := range f.(cli.DocGenerationFlag).GetEnvVars() {
			if !strings.Contains(page, env) {
				t.Errorf("the manual page of %s lacks %s", c.Name, env)
			}
		}
	}
	for _, sub := range c.Subcommands {
		checkDocumented(t, sub, page, completions)
	}
}

func readPage(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name+".1"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// The defaults in the manual are the same wherever it is made.
func TestManualDoesNotDependOnTheEnvironment(t *testing.T) {
	page := func() string {
		var b strings.Builder
		for _, p := range clidoc.Program(newApp()).Commands {
			if err := clidoc.Man(&b, p, "1.0", exits, otherPages); err != nil {
				t.Fatal(err)
			}
		}
		return b.String()
	}
	before := page()
	t.Setenv("TWILL_ETCD_ENDPOINTS", "http://192.0.2.99:2379")
	t.Setenv("TWILL_QUEUES", "7")
	if page() != before {
		t.Error("the environment of the build shows in the manual pages")
	}
}
