package main

import (
	"strings"
	"testing"
)

// However one asks for help, the commands are listed.
func TestHelp(t *testing.T) {
	for _, line := range []string{"twill", "twill help", "twill --help", "twill -h"} {
		var b strings.Builder
		app := newApp()
		app.Writer = &b
		if err := app.Run(strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		for _, c := range app.Commands {
			if !c.Hidden && !strings.Contains(b.String(), "\n   "+c.Name+" ") {
				t.Errorf("%s does not list %s:\n%s", line, c.Name, b.String())
			}
		}
	}
}
