package api

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

//go:generate go test -run TestJSONDoc . -args -update

var update = flag.Bool("update", false, "write docs/json.md anew")

const jsonDoc = "../../docs/json.md"

// documents are what others read, each with where it comes from; the other types are parts of them.
var documents = []struct{ name, source string }{
	{"Status", "`twill status --json`, and `GET /v1/status` of the control socket"},
	{"Peers", "`twill peers --json`, and `GET /v1/peers`"},
	{"Leases", "`twill leases --json`"},
	{"Rates", "`twill top --json`"},
	{"PingReport", "`twill ping --json`"},
	{"Check", "`twill check --json`"},
	{"Trace", "`twill trace --json`, and `GET /v1/trace`"},
	{"Health", "`/healthz` and `/readyz`, where JSON is asked for"},
	{"Runtime", "`GET /v1/runtime`"},
	{"Ping", "`GET /v1/ping`"},
	{"LogLevel", "`twill log-level --json`, and `GET /v1/log-level` and `PUT /v1/log-level?level=LEVEL`"},
}

const jsonIntro = `<!-- Written by "make generate" from the comments in internal/api. Change those. -->

# The JSON of twill

Every document begins with ` + "`schema`" + `, the number of the schema that it follows: %d. The number grows when a field goes, or changes its
name, type, unit or meaning. Fields and codes that come do not change it: who reads a document passes over those that it does not
know, and takes one that is absent for not known.

Times are RFC 3339. A field whose name ends with ` + "`_seconds`" + ` is in seconds, one that ends with ` + "`_bytes`" + ` in bytes; other numbers
count what their name says, unless the table says otherwise. Subnets and addresses are written as usual: ` + "`10.5.7.0/24`" + `,
` + "`198.18.0.3:8285`" + `. ` + "`twill config get --json`" + ` is no document of these: it prints the network config as it is in etcd.
With ` + "`--watch`" + ` one document follows the other.
`

// docs/json.md is what the types say: each field has its meaning.
func TestJSONDoc(t *testing.T) {
	got, err := writeJSONDoc()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(jsonDoc, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(jsonDoc)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/json.md is not what the types say: run `make generate`")
	}
}

// Each document begins with the number of its schema.
func TestDocumentsBeginWithSchema(t *testing.T) {
	for _, doc := range []any{Status{}, Peers{}, Leases{}, PingReport{}, Check{}, Trace{}, Health{}, Runtime{}, Ping{}, Rates{}, LogLevel{}} {
		if first := reflect.TypeOf(doc).Field(0); first.Name != "Schema" || first.Tag.Get("json") != "schema" {
			t.Errorf("%T begins with %s", doc, first.Name)
		}
	}
}

// codesOf is how the comment of the codes of a type begins.
var codesOf = map[string]string{
	"Problem": "The codes of a Problem",
	"Peer":    "The codes of a Peer",
	"Finding": "The codes of findings",
}

func writeJSONDoc() ([]byte, error) {
	pkg, err := readPackage()
	if err != nil {
		return nil, err
	}
	types := map[string]*doc.Type{}
	for _, t := range pkg.Types {
		types[t.Name] = t
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, jsonIntro, Schema)
	var queue []string
	for _, d := range documents {
		queue = append(queue, d.name)
	}
	for i := 0; i < len(queue); i++ {
		t := types[queue[i]]
		if t == nil {
			return nil, fmt.Errorf("there is no type %s", queue[i])
		}
		fmt.Fprintf(&b, "\n## %s\n\n", t.Name)
		if i < len(documents) {
			fmt.Fprintf(&b, "%s.\n\n", documents[i].source)
		}
		fmt.Fprintf(&b, "%s\n\n", oneLine(t.Doc))
		parts, err := writeType(&b, t, types)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		for _, p := range parts {
			if !slices.Contains(queue, p) {
				queue = append(queue, p)
			}
		}
		for _, group := range pkg.Consts {
			if strings.HasPrefix(group.Doc, codesOf[t.Name]) && codesOf[t.Name] != "" {
				fmt.Fprintf(&b, "\n%s\n\n", oneLine(group.Doc))
				writeValues(&b, group)
			}
		}
	}
	return b.Bytes(), nil
}

func readPackage() (*doc.Package, error) {
	fset := token.NewFileSet()
	names, err := os.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, n := range names {
		if strings.HasSuffix(n.Name(), ".go") && !strings.HasSuffix(n.Name(), "_test.go") {
			f, err := parser.ParseFile(fset, n.Name(), nil, parser.ParseComments)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	return doc.NewFromFiles(fset, files, "twill/internal/api")
}

// writeType writes a type's fields, or the values of one that is a word, and returns the types of its parts.
func writeType(b *bytes.Buffer, t *doc.Type, types map[string]*doc.Type) (parts []string, err error) {
	spec := t.Decl.Specs[0].(*ast.TypeSpec)
	fields, ok := spec.Type.(*ast.StructType)
	if !ok {
		for _, group := range t.Consts {
			writeValues(b, group)
		}
		return nil, nil
	}
	fmt.Fprint(b, "| field | type | meaning |\n|---|---|---|\n")
	for _, f := range fields.Fields.List {
		name, options, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		meaning := oneLine(f.Doc.Text() + " " + f.Comment.Text())
		if meaning == "" {
			return nil, fmt.Errorf("field %s has no comment", f.Names[0])
		}
		// Go calls a field by its name at the comment's begin; a reader of JSON does not.
		meaning = strings.TrimPrefix(strings.TrimPrefix(meaning, f.Names[0].Name+" is "), f.Names[0].Name+" are ")
		kind, part := jsonType(f.Type)
		if types[part] != nil {
			parts = append(parts, part)
			kind = strings.Replace(kind, part, fmt.Sprintf("[%s](#%s)", part, strings.ToLower(part)), 1)
		}
		if strings.Contains(options, "omit") {
			kind += ", may be absent"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, kind, meaning)
	}
	return parts, nil
}

func writeValues(b *bytes.Buffer, group *doc.Value) {
	fmt.Fprint(b, "| value | meaning |\n|---|---|\n")
	for _, s := range group.Decl.Specs {
		v := s.(*ast.ValueSpec)
		fmt.Fprintf(b, "| `%s` | %s |\n", strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`), oneLine(v.Doc.Text()+" "+v.Comment.Text()))
	}
}

// jsonType is how JSON writes a Go type, and which type of this package it is made of.
func jsonType(e ast.Expr) (kind, part string) {
	switch e := e.(type) {
	case *ast.StarExpr:
		return jsonType(e.X)
	case *ast.ArrayType:
		kind, part = jsonType(e.Elt)
		return "list of " + kind, part
	case *ast.MapType:
		key, keyPart := jsonType(e.Key)
		value, _ := jsonType(e.Value)
		return "object, " + key + " to " + value, keyPart
	case *ast.SelectorExpr:
		if e.Sel.Name == "Time" {
			return "time", ""
		}
		return "string", ""
	case *ast.Ident:
		switch e.Name {
		case "string":
			return "string", ""
		case "bool":
			return "boolean", ""
		case "float64":
			return "number", ""
		case "int", "int64", "uint16", "uint64":
			return "integer", ""
		}
		return e.Name, e.Name
	}
	return fmt.Sprintf("%T", e), ""
}

// oneLine is a comment as a table takes it.
func oneLine(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "\\|")
}
