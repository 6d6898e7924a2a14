package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twill/bench/report"
)

// The tables of the documentation are those of the committed results.
func TestDocsShowResults(t *testing.T) {
	for _, tt := range []struct {
		result, doc string
		others      []string
	}{
		{"result.json", "README.md", readmeContenders},
		{"checks.json", "docs/threat-model.md", []string{"twill-unchecked"}},
	} {
		result, err := report.Load(filepath.Join("results", tt.result))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := os.ReadFile(filepath.Join("..", tt.doc))
		if err != nil {
			t.Fatal(err)
		}
		for table := range strings.SplitSeq(result.Markdown(tt.others...), "\n\n") {
			if table = strings.TrimSpace(table); !strings.Contains(string(doc), table) {
				t.Errorf("%s does not have this table of bench/results/%s:\n%s", tt.doc, tt.result, table)
			}
		}
	}
}
