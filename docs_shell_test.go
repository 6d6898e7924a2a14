package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"mvdan.cc/sh/v3/syntax"
)

// Every command of twill, make and Go in the documentation is one that exists.
func TestDocsCommands(t *testing.T) {
	targets := makeTargets(t)
	for _, p := range docPages(t) {
		for _, b := range p.blocks {
			for _, script := range scripts(b) {
				if err := checkScript(script, targets); err != nil {
					t.Errorf("%s: %v, in\n%s", p.path, err, script)
				}
			}
		}
		for _, s := range p.spans {
			if !strings.HasPrefix(s, "twill ") && !strings.HasPrefix(s, "make ") && !strings.HasPrefix(s, "go ") {
				continue
			}
			if err := checkScript(s, targets); err != nil {
				t.Errorf("%s: `%s`: %v", p.path, s, err)
			}
		}
	}
}

// scripts are what a reader may copy from a block: a shell's all, of others the lines behind a prompt.
func scripts(b docBlock) []string {
	if b.language == "sh" {
		return []string{b.text}
	}
	var list []string
	for line := range strings.Lines(b.text) {
		if command, found := strings.CutPrefix(line, "$ "); found {
			list = append(list, command)
		}
	}
	return list
}

// checkScript returns the first error of a shell script: in its syntax, or in a command that it knows.
func checkScript(script string, targets map[string]bool) error {
	file, err := syntax.NewParser().Parse(strings.NewReader(script), "")
	if err != nil {
		return err
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok && err == nil {
			err = checkCall(words(call), targets)
		}
		return true
	})
	return err
}

// words are the words of a command as the shell would pass them on; what it would expand stays as it is. An ellipsis stands
// for more of them.
func words(call *syntax.CallExpr) []string {
	var list []string
	for _, w := range call.Args {
		var b strings.Builder
		for _, part := range w.Parts {
			switch part := part.(type) {
			case *syntax.Lit:
				b.WriteString(part.Value)
			case *syntax.SglQuoted:
				b.WriteString(part.Value)
			default:
				_ = syntax.NewPrinter().Print(&b, part) // a Builder does not fail
			}
		}
		if word := b.String(); word != "…" && word != "..." {
			list = append(list, word)
		}
	}
	return list
}

// runners run another command, behind options of theirs.
var runners = []string{"sudo", "nsenter", "watch", "time"}

func checkCall(args []string, targets map[string]bool) error {
	if len(args) == 0 {
		return nil
	}
	isTwill := func(w string) bool { return w == "twill" || w == "./twill" || w == "/usr/bin/twill" }
	if slices.Contains(runners, args[0]) {
		if i := slices.IndexFunc(args, isTwill); i > 0 {
			args = args[i:]
		}
	}
	switch {
	case isTwill(args[0]):
		return dryRun(args[1:])
	case args[0] == "make":
		return checkMake(args[1:], targets)
	case args[0] == "go" && len(args) > 2 && args[1] == "run" && args[2] == ".":
		return dryRun(args[3:])
	case args[0] == "go":
		return checkGo(args[1:])
	}
	return nil
}

// dryRun has the real command line parse args; of the actions only those run that look at them. Words in capitals stand for
// others.
func dryRun(args []string) error {
	app := newApp()
	app.Writer, app.ErrWriter = io.Discard, io.Discard
	withoutActions(app.Commands)
	return app.Run(append([]string{"twill"}, args...))
}

func withoutActions(commands []*cli.Command) {
	for _, c := range commands {
		switch {
		case len(c.Subcommands) > 0:
			withoutActions(c.Subcommands)
		case c.Name == "run":
			c.Action = func(c *cli.Context) error {
				_, err := daemonConfig(c)
				if errors.Is(err, os.ErrNotExist) {
					return nil // a certificate of the reader's
				}
				return err
			}
		case c.Name == "help":
			c.Action = func(c *cli.Context) error {
				name := c.Args().First()
				if name != strings.ToUpper(name) && c.App.Command(name) == nil {
					return unknownCommand(name)
				}
				return nil
			}
		default:
			c.Action = func(*cli.Context) error { return nil }
		}
	}
}

func makeTargets(t *testing.T) map[string]bool {
	t.Helper()
	raw, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(string(raw), -1) {
		targets[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`\b[A-Z_]+\b`).FindAllString(string(raw), -1) {
		targets[m+"="] = true
	}
	return targets
}

func checkMake(args []string, targets map[string]bool) error {
	for _, arg := range args {
		name, _, isVariable := strings.Cut(arg, "=")
		if isVariable {
			name += "="
		}
		if !targets[name] && name != strings.ToUpper(name) || isVariable && !targets[name] {
			return fmt.Errorf("the Makefile has no %s", arg)
		}
	}
	return nil
}

// checkGo looks for the packages of a Go command.
func checkGo(args []string) error {
	for _, arg := range args {
		if dir := strings.TrimSuffix(arg, "/..."); strings.HasPrefix(dir, "./") {
			if _, err := os.Stat(filepath.Clean(dir)); err != nil {
				return err
			}
		}
	}
	return nil
}

// The checks see what they are there for.
func TestDocsCommandsFindsMistakes(t *testing.T) {
	targets := makeTargets(t)
	for _, good := range []string{
		"twill", "twill run --mtu 1400", "go run . demo --keep", "sudo twill peers --json | jq .", "make test-faults FAULT_HOLD=1m",
		"twill help COMMAND", "systemctl restart twill", "twill run …", "go test -race ./subnet",
	} {
		if err := checkScript(good, targets); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"twill runs", "twill run --mtus 1400", "twill run --mtu 1", "twill run --spoof-check never", "twill peers now", "twill config put x",
		"twill help runs", "make tests", "make test HOLD=1m", "sudo twill peer", "true && twill status --all", "go test ./none", "echo 'a",
	} {
		if err := checkScript(bad, targets); err == nil {
			t.Errorf("%s: no mistake found", bad)
		}
	}
}
