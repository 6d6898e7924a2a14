package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
	"golang.org/x/net/html"
)

// A docPage is a page of the documentation, taken apart.
type docPage struct {
	path    string // from the root of the repository
	raw     string
	links   []string        // destinations, as they are written
	images  []string        // the same
	anchors map[string]bool // of headings, as GitHub makes them, and of HTML
	spans   []string        // inline code
	blocks  []docBlock
}

// A docBlock is a fenced block of code.
type docBlock struct {
	language string
	text     string
}

// docPages reads all pages of the documentation.
func docPages(t *testing.T) []*docPage {
	t.Helper()
	paths := []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
	below, err := filepath.Glob("docs/*.md")
	if err != nil || len(below) == 0 {
		t.Fatalf("docs/*.md: %v, %v", below, err)
	}
	var pages []*docPage
	for _, path := range append(paths, below...) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, parsePage(path, raw))
	}
	return pages
}

func parsePage(path string, raw []byte) *docPage {
	p := &docPage{path: path, raw: string(raw), anchors: map[string]bool{}}
	tree := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(raw))
	_ = ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // p.node returns no error
		if entering {
			p.node(n, raw)
		}
		return ast.WalkContinue, nil
	})
	return p
}

func (p *docPage) node(n ast.Node, raw []byte) {
	switch n := n.(type) {
	case *ast.Heading:
		p.anchor(plainText(n, raw))
	case *ast.Link:
		p.links = append(p.links, string(n.Destination))
	case *ast.AutoLink:
		p.links = append(p.links, string(n.URL(raw)))
	case *ast.Image:
		p.images = append(p.images, string(n.Destination))
	case *ast.CodeSpan:
		p.spans = append(p.spans, plainText(n, raw))
	case *ast.FencedCodeBlock:
		p.blocks = append(p.blocks, docBlock{string(n.Language(raw)), string(n.Lines().Value(raw))})
	case *ast.HTMLBlock:
		p.html(n.Lines().Value(raw))
	case *ast.RawHTML:
		p.html(n.Segments.Value(raw))
	}
}

// html takes links, images and anchors out of HTML.
func (p *docPage) html(raw []byte) {
	z := html.NewTokenizer(bytes.NewReader(raw))
	for z.Next() != html.ErrorToken {
		for _, a := range z.Token().Attr {
			switch a.Key {
			case "href":
				p.links = append(p.links, a.Val)
			case "src", "srcset":
				p.images = append(p.images, a.Val)
			case "id", "name":
				p.anchors[a.Val] = true
			}
		}
	}
}

// anchor adds the anchor that GitHub gives a heading: lower case, blanks as dashes, without punctuation, numbered where
// another one has it.
func (p *docPage) anchor(heading string) {
	slug := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
	name := slug
	for i := 1; p.anchors[name]; i++ {
		name = fmt.Sprintf("%s-%d", slug, i)
	}
	p.anchors[name] = true
}

// plainText is the text of a node without its markup.
func plainText(n ast.Node, raw []byte) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if t, ok := c.(*ast.Text); ok {
			b.Write(t.Segment.Value(raw))
			if t.SoftLineBreak() {
				b.WriteByte(' ')
			}
			continue
		}
		b.WriteString(plainText(c, raw))
	}
	return b.String()
}

// code yields what is code in the page: blocks and spans.
func (p *docPage) code() []string {
	list := p.spans[:len(p.spans):len(p.spans)]
	for _, b := range p.blocks {
		list = append(list, b.text)
	}
	return list
}
