package fromflannel

import (
	"fmt"
	"slices"
	"strings"

	"twill/internal/envfile"
)

// Settings are the values of flanneld's flags, by the flag's name without dashes. Several values are those of a flag that
// was repeated; what is not there has Flannel's default.
type Settings map[string][]string

// envPrefix begins the variables that flanneld reads, followed by the flag in upper case.
const envPrefix = "FLANNELD_"

// distribution maps the variables of Red Hat's flanneld-start, which makes flags of them, to those flags. The first of a
// flag's that is set counts.
var distribution = []struct{ variable, flag string }{
	{"FLANNEL_ETCD_ENDPOINTS", "etcd-endpoints"},
	{"FLANNEL_ETCD", "etcd-endpoints"},
	{"FLANNEL_ETCD_PREFIX", "etcd-prefix"},
	{"FLANNEL_ETCD_KEY", "etcd-prefix"},
}

// distributionOptions is the variable with more of flanneld's command line.
const distributionOptions = "FLANNEL_OPTIONS"

// Read collects the settings from a process's environment or an environment file, and from its command line without the
// program's name. An error names a flag that flanneld does not have.
func Read(env []envfile.Variable, args []string) (Settings, error) {
	s := Settings{}
	values := map[string]string{}
	for _, v := range env {
		values[v.Name] = v.Value
	}
	for name := range flags {
		if v := values[envPrefix+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))]; v != "" {
			s[name] = []string{v}
		}
	}
	line := Settings{}
	for _, d := range distribution {
		if v := values[d.variable]; v != "" && line[d.flag] == nil {
			line[d.flag] = []string{v}
		}
	}
	if err := line.parse(strings.Fields(values[distributionOptions])); err != nil {
		return nil, fmt.Errorf("%s: %w", distributionOptions, err)
	}
	if err := line.parse(args); err != nil {
		return nil, err
	}
	for name, v := range line {
		s[name] = v
	}
	return s, nil
}

// parse reads a command line as Go's package flag does: -name, --name, -name=value, -name value.
func (s Settings) parse(args []string) error {
	given := map[string]bool{}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
		if arg == "--" || name == arg || name == "" {
			return nil // arguments, which flanneld does not look at
		}
		name, value, joined := strings.Cut(name, "=")
		f, known := flags[name]
		switch {
		case !known:
			return fmt.Errorf("flanneld has no flag %s", arg)
		case joined:
		case f.kind == boolean:
			value = "true"
		case len(args) == 0:
			return fmt.Errorf("%s: want a value", arg)
		default:
			value, args = args[0], args[1:]
		}
		if f.kind == list && given[name] {
			s[name] = append(s[name], value)
		} else {
			s[name] = []string{value}
		}
		given[name] = true
	}
	return nil
}

// get is the flag's value, or Flannel's default.
func (s Settings) get(name string) string {
	if v := s[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return flags[name].value
}

// names are the flags that are set, sorted.
func (s Settings) names() []string {
	names := make([]string, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
