package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twill/bench/report"
)

// The tables of the README are those of the committed result.
func TestReadmeShowsResult(t *testing.T) {
	result, err := report.Load(filepath.Join("results", "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for table := range strings.SplitSeq(result.Markdown(readmeContenders...), "\n\n") {
		if table = strings.TrimSpace(table); !strings.Contains(string(readme), table) {
			t.Errorf("README.md does not have this table, which go run ./bench --draw bench/results/result.json --markdown prints:\n%s", table)
		}
	}
}
