package fromflannel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"twill/internal/envfile"
)

// Source is where settings come from.
type Source struct {
	Name string // for people
	Env  []envfile.Variable
	Args []string
}

// knownFiles are where distributions keep flanneld's environment.
var knownFiles = []string{"/etc/sysconfig/flanneld", "/etc/default/flanneld", "/etc/default/flannel", "/run/flannel/options.env"}

// ErrNotFound says that no flanneld runs here and none of the usual files exists.
var ErrNotFound = errors.New("no flanneld runs here and none of its usual environment files exists")

// Find looks for a flanneld that runs on this host, which knows best how it was started, and else for its environment
// files. root is "/", or a test's own.
func Find(root string) (Source, error) {
	processes, err := filepath.Glob(filepath.Join(root, "proc/[0-9]*"))
	if err != nil {
		return Source{}, err
	}
	for _, dir := range processes {
		if name, _ := os.ReadFile(filepath.Join(dir, "comm")); strings.TrimSpace(string(name)) == "flanneld" {
			return fromProcess(dir)
		}
	}
	var s Source
	for _, path := range knownFiles {
		err := s.AddFile(filepath.Join(root, path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Source{}, err
		}
	}
	if s.Name == "" {
		return Source{}, ErrNotFound
	}
	return s, nil
}

func fromProcess(dir string) (Source, error) {
	s := Source{Name: "the flanneld that runs as process " + filepath.Base(dir)}
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return s, fmt.Errorf("%s: %w", s.Name, err)
	}
	environ, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return s, fmt.Errorf("%s: %w", s.Name, err)
	}
	if args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00"); len(args) > 1 {
		s.Args = args[1:]
	}
	for assignment := range bytes.SplitSeq(environ, []byte{0}) {
		// Red Hat's wrapper has made flags of its variables, which are in the command line now.
		if name, value, ok := strings.Cut(string(assignment), "="); ok && strings.HasPrefix(name, envPrefix) {
			s.Env = append(s.Env, envfile.Variable{Name: name, Value: value})
		}
	}
	return s, nil
}

// AddFile adds the variables of an environment file.
func (s *Source) AddFile(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	vars, _ := envfile.Parse(raw)
	s.Env = append(s.Env, vars...)
	if s.Name != "" {
		s.Name += ", "
	}
	s.Name += path
	return nil
}
