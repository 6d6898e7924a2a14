package fromflannel

import (
	"fmt"
	"strings"

	"twill/internal/envfile"
)

// Plan is what has to be done on a host.
type Plan struct {
	Settings    []string // lines for twill's settings file
	CommandLine []string // flags that a variable cannot say
	Differences []string // sentences
	Blockers    []string // sentences: what twill cannot do
}

// NewPlan translates Flannel's settings. Defaults that are the same are left out.
func NewPlan(s Settings) Plan {
	var p Plan
	for _, name := range s.names() {
		f := flags[name]
		isDefault := s.get(name) == f.value && len(s[name]) == 1
		switch {
		case isDefault && (f.fate == moved || f.fate == missing):
		case f.fate == same:
			p.keep(name, s[name])
			if f.note != "" {
				p.differ("%s %s: %s.", name, s.get(name), f.note)
			}
		case f.fate == secret:
			p.Settings = append(p.Settings, "#"+variable(name)+"= # copy it from Flannel's settings")
		case f.fate == moved:
			p.differ("%s %s: %s.", name, s.get(name), f.note)
		case f.fate == missing:
			p.Blockers = append(p.Blockers, fmt.Sprintf("%s: %s.", name, f.note))
		}
	}
	if s.get("ip-masq") == "true" {
		p.differ("ip-masq: Docker gets --ip-masq=false, as with mk-docker-opts.sh.")
	} else if len(s["ip-masq"]) == 0 {
		p.keep("ip-masq", []string{"false"}) // the packages' settings file says true
	}
	p.differ("The device is called twill0 instead of flannel0.")
	p.differ("Packets are accepted only from the hosts that hold the leases; where several addresses of one host send, try TWILL_SPOOF_CHECK=source.")
	return p
}

func (p *Plan) differ(format string, args ...any) {
	p.Differences = append(p.Differences, fmt.Sprintf(format, args...))
}

// keep passes a flag on. A variable holds one value, as in Flannel.
func (p *Plan) keep(name string, values []string) {
	if len(values) == 1 {
		p.Settings = append(p.Settings, variable(name)+"="+envfile.Quote(values[0]))
		return
	}
	for _, v := range values {
		p.CommandLine = append(p.CommandLine, "--"+name+"="+v)
	}
}

func variable(flag string) string {
	return "TWILL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
