package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"twill/internal/clidoc"
	"twill/tunnel"
)

// The reference says what the commands say.
func TestReferenceIsCurrent(t *testing.T) {
	var want bytes.Buffer
	if err := writeReference(&want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("docs/reference.md is not what the commands say now: run `make generate`")
	}
}

// The reference has every command with every option, and each option's variables.
func TestReferenceIsComplete(t *testing.T) {
	var b strings.Builder
	if err := writeReference(&b); err != nil {
		t.Fatal(err)
	}
	var check func(p clidoc.Page)
	check = func(p clidoc.Page) {
		_, section, found := strings.Cut(b.String(), "\n### "+strings.Join(p.Path, " ")+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		if strings.Contains(section, "](#twill-run)") {
			_, run, _ := strings.Cut(b.String(), "\n### twill run\n")
			run, _, _ = strings.Cut(run, "\n#")
			section += run
		}
		if !found && len(p.Path) > 1 {
			t.Errorf("the reference lacks %s", strings.Join(p.Path, " "))
		}
		if strings.Contains(section, "](#options-for-etcd)") {
			_, group, _ := strings.Cut(b.String(), "\n## Options for etcd\n")
			section += group
		}
		for _, f := range p.Flags {
			for _, word := range append([]string{f.Names[0]}, f.Env...) {
				if !strings.Contains(section, word) {
					t.Errorf("the reference of %s lacks %s", strings.Join(p.Path, " "), word)
				}
			}
		}
		for _, c := range p.Commands {
			check(c)
		}
	}
	check(clidoc.Program(newApp()))
}

// Every link within the repository leads somewhere, and every other one is an address.
func TestDocsLinks(t *testing.T) {
	pages := map[string]*docPage{}
	for _, p := range docPages(t) {
		pages[p.path] = p
	}
	outside := map[string]bool{}
	for _, p := range pages {
		for _, link := range p.links {
			u, err := url.Parse(link)
			switch {
			case err != nil:
				t.Errorf("%s: link %q: %v", p.path, link, err)
			case u.Scheme == "https" && u.Host != "":
				outside[link] = true
			case u.Scheme != "" || u.Host != "" || strings.HasPrefix(u.Path, "/"):
				t.Errorf("%s: link %q is neither relative nor https", p.path, link)
			default:
				checkLink(t, pages, p, u)
			}
		}
		for _, image := range p.images {
			checkImage(t, filepath.Join(filepath.Dir(p.path), image))
		}
	}
	for _, link := range slices.Sorted(maps.Keys(outside)) {
		t.Log("not fetched:", link)
	}
}

func checkLink(t *testing.T, pages map[string]*docPage, from *docPage, u *url.URL) {
	t.Helper()
	path := from.path
	if u.Path != "" {
		path = filepath.Join(filepath.Dir(from.path), u.Path)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("%s: link %q: %v", from.path, u, err)
		return
	}
	if u.Fragment == "" {
		return
	}
	if to := pages[path]; to == nil || !to.anchors[u.Fragment] {
		t.Errorf("%s: link %q: %s has no heading for it", from.path, u, path)
	}
}

func checkImage(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	if filepath.Ext(path) == ".png" {
		if _, err := png.DecodeConfig(bytes.NewReader(raw)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return
	}
	for d := xml.NewDecoder(bytes.NewReader(raw)); err == nil; {
		_, err = d.Token()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("%s: %v", path, err)
	}
}

// The index knows every page.
func TestDocsIndex(t *testing.T) {
	pages := docPages(t)
	i := slices.IndexFunc(pages, func(p *docPage) bool { return p.path == "docs/README.md" })
	if i < 0 {
		t.Fatal("there is no docs/README.md")
	}
	for _, p := range pages {
		if name, below := strings.CutPrefix(p.path, "docs/"); below && name != "README.md" && !slices.Contains(pages[i].links, name) {
			t.Errorf("docs/README.md does not link to %s", name)
		}
	}
}

// Names that the documentation uses exist: variables, options, exit codes, files.
func TestDocsNames(t *testing.T) {
	variables, options := map[string]bool{}, map[string]bool{}
	var collect func(commands []*cli.Command)
	collect = func(commands []*cli.Command) {
		for _, c := range commands {
			for _, f := range c.Flags {
				for _, name := range f.Names() {
					options["--"+name] = true
				}
				for _, name := range f.(cli.DocGenerationFlag).GetEnvVars() {
					variables[name] = true
				}
			}
			collect(c.Subcommands)
		}
	}
	collect(newApp().Commands)
	for _, key := range []string{"NETWORK", "SUBNET", "MTU", "IPMASQ"} {
		variables["FLANNEL_"+key] = true // in subnet.env
	}
	for _, option := range foreignOptions {
		options[option] = true
	}
	shipped, repository := shippedText(t), repositoryFiles(t)
	for _, p := range docPages(t) {
		for _, name := range regexp.MustCompile(`\b(?:TWILL|FLANNELD?)_[A-Z][A-Z0-9_]*`).FindAllString(p.raw, -1) {
			if !variables[name] {
				t.Errorf("%s: no variable is called %s", p.path, name)
			}
		}
		for _, m := range regexp.MustCompile(`(?i)\bexit(?:s with| code| status)?:? (\d+)\b`).FindAllStringSubmatch(p.raw, -1) {
			if !isExitCode(m[1]) {
				t.Errorf("%s: %q: no command exits so", p.path, m[0])
			}
		}
		for _, s := range p.spans {
			if option := regexp.MustCompile(`^--[a-z][a-z0-9-]*`).FindString(s); option != "" && !options[option] {
				t.Errorf("%s: `%s`: no command has this option", p.path, s)
			}
			checkRepositoryPath(t, p, s, repository)
		}
		for _, code := range p.code() {
			for _, path := range regexp.MustCompile(`/(?:etc|run|usr|var)/[\w./-]*\btwill[\w./-]*`).FindAllString(code, -1) {
				if !isKnownFile(path, shipped) {
					t.Errorf("%s: %s is no file of twill's", p.path, path)
				}
			}
		}
		for _, b := range p.blocks {
			if b.language == "json" && !json.Valid([]byte(b.text)) {
				t.Errorf("%s: this is not JSON:\n%s", p.path, b.text)
			}
		}
	}
}

// foreignOptions are those of other programs, and of this repository's own tools, in the documentation.
var foreignOptions = []string{"--bip", "--profiles", "--flanneld", "--show", "--auto-compaction-retention",
	"--client-cert-auth", "--device"}

func isExitCode(text string) bool {
	n, err := strconv.Atoi(text)
	for _, e := range exits {
		if err == nil && e.Code == n {
			return true
		}
	}
	return false
}

// readersFiles are those that the documentation has the reader make.
var readersFiles = []string{"/usr/local/bin/twill", "/etc/twill/password", "/etc/cni/net.d/10-twill.conflist"}

// isKnownFile reports whether path is one of files, or below one of their directories, or named in what the packages hold.
func isKnownFile(path, shipped string) bool {
	path = strings.TrimRight(path, "./")
	for _, f := range files {
		if f.Path == path || filepath.Dir(f.Path) == path {
			return true
		}
	}
	return slices.Contains(readersFiles, path) || strings.Contains(shipped, path)
}

// shippedText is all that the packages are made of and that names files.
func shippedText(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, pattern := range []string{"packaging/nfpm.yaml", "packaging/twill.env", "packaging/man/*", "packaging/scripts/*", "systemd/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v, %v", pattern, paths, err)
		}
		for _, path := range paths {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(raw)
		}
	}
	return b.String()
}

// repositoryFiles are the paths of all files, their names, and their directories.
func repositoryFiles(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == ".git" && entry.IsDir() {
			return fs.SkipDir
		}
		known[path], known[filepath.Base(path)] = true, true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return known
}

var (
	repositoryPath = regexp.MustCompile(`^(?:bench|docs|internal|packaging|routes|subnet|systemd|testdata|tunnel)/[\w./-]+$`)
	goFile         = regexp.MustCompile(`^\w+\.go$`)
)

func checkRepositoryPath(t *testing.T, p *docPage, span string, known map[string]bool) {
	t.Helper()
	if (repositoryPath.MatchString(span) || goFile.MatchString(span)) && !known[strings.TrimRight(span, "/")] {
		t.Errorf("%s: `%s` is not in the repository", p.path, span)
	}
}

// Who sees drops rise finds each reason, what it means and what to do.
func TestDocsDropReasons(t *testing.T) {
	raw, err := os.ReadFile("docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	for reason := range tunnel.DropReasons() {
		row := regexp.MustCompile("(?m)^\\| `" + reason.String() + "` \\|[^|]+\\|[^|]+\\|$")
		if n := len(row.FindAll(raw, -1)); n != 1 {
			t.Errorf("docs/troubleshooting.md has %d rows with meaning and remedy for `%s`, want 1", n, reason)
		}
	}
}

// The map for contributors has every package.
func TestDocsPackages(t *testing.T) {
	raw, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("internal/*/*.go")
	if err != nil || len(paths) == 0 {
		t.Fatalf("internal/*/*.go: %v, %v", paths, err)
	}
	packages := map[string]bool{}
	for _, path := range paths {
		packages[filepath.Dir(path)] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		if !bytes.Contains(raw, []byte("`"+dir+"`")) {
			t.Errorf("docs/architecture.md does not say what %s is", dir)
		}
	}
}
