package dockeropts

import "strings"

const (
	keySubnet = "FLANNEL_SUBNET"
	keyMTU    = "FLANNEL_MTU"
	keyIPMasq = "FLANNEL_IPMASQ"
)

// Env is what Docker has to know of subnet.env, as text. Empty means missing.
type Env struct {
	Subnet string // the bridge's address with the subnet's length
	MTU    string // bytes
	IPMasq string // "true": the overlay's daemon masquerades
}

// ParseEnv reads a file of shell assignments, of which a person may have written some: blanks
// around them, "export" in front and quotes are fine, the last one of a name counts, and
// everything else in the file is skipped. Nothing is executed or expanded.
func ParseEnv(raw []byte) Env {
	var e Env
	for line := range strings.Lines(string(raw)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		if exported, ok := strings.CutPrefix(name, "export "); ok {
			name = strings.TrimLeft(exported, " \t")
		}
		switch name {
		case keySubnet:
			e.Subnet = unquote(value)
		case keyMTU:
			e.MTU = unquote(value)
		case keyIPMasq:
			e.IPMasq = unquote(value)
		}
	}
	return e
}

// unquote removes one pair of quotes around s.
func unquote(s string) string {
	if n := len(s); n >= 2 && s[0] == s[n-1] && (s[0] == '"' || s[0] == '\'') {
		return s[1 : n-1]
	}
	return s
}
