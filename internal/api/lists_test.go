package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// The lists have every constant of their kind.
func TestListsAreComplete(t *testing.T) {
	var states []string
	for _, s := range PeerStates {
		states = append(states, string(s))
	}
	for prefix, list := range map[string][]string{"Problem": ProblemCodes, "State": states} {
		found := constants(t, prefix)
		if len(found) == 0 || len(found) != len(list) {
			t.Errorf("%s…: %d constants %q, the list has %d", prefix, len(found), found, len(list))
		}
		for _, value := range found {
			if !slices.Contains(list, value) {
				t.Errorf("%s…: the list lacks %q", prefix, value)
			}
		}
	}
}

// constants returns the values of the package's string constants whose names begin with prefix.
func constants(t *testing.T, prefix string) (values []string) {
	t.Helper()
	for _, file := range []string{"api.go", "health.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 && strings.HasPrefix(spec.Names[0].Name, prefix) {
				if value, ok := spec.Values[0].(*ast.BasicLit); ok {
					values = append(values, strings.Trim(value.Value, "\""))
				}
			}
			return true
		})
	}
	return values
}
