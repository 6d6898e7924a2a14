// Package dockeropts turns subnet.env into options for dockerd, in the place of Flannel's
// mk-docker-opts.sh: env file → Env (text as it stands) → Generate (pure) → output file.
//
// The output is the script's, byte for byte. What differs is what it does with bad input: the
// output file is replaced in one step or not touched at all, and everything that would make
// Docker start on a wrong subnet is an error. Only the env file says what the overlay is, never
// FLANNEL_ or DOCKER_OPT_ variables that happen to be in the environment.
package dockeropts

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// DefaultKey is the script's default for -k.
const DefaultKey = "DOCKER_OPTS"

// Options are the script's flags.
type Options struct {
	EnvFile    string // -f: the subnet.env to read
	Output     string // -d: the file to write
	Individual bool   // -i: one DOCKER_OPT_ variable for each option
	Combined   bool   // -c: all options in the variable Key; neither -i nor -c means both
	Key        string // -k: name of the combined variable
	NoIPMasq   bool   // -m: leave out --ip-masq, which old Dockers do not know
}

// individualPrefix begins the name of each individual variable.
const individualPrefix = "DOCKER_OPT_"

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Validate checks what can be wrong with the flags themselves.
func (o Options) Validate() error {
	if !variableName.MatchString(o.Key) {
		return fmt.Errorf("-k %.64q: want the name of a shell variable, like %s", o.Key, DefaultKey)
	}
	if strings.HasPrefix(o.Key, individualPrefix) {
		return fmt.Errorf("-k %.64s: names that begin with %s are taken by the individual options", o.Key, individualPrefix)
	}
	return nil
}

// option is one of dockerd's, and the variable that -i puts it in.
type option struct {
	variable string
	flag     string
}

// Generate makes the text of the output file. existing is the value that the variable o.Key has in the
// environment; it is put in front of the combined options.
func Generate(env Env, o Options, existing string) ([]byte, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	opts, err := dockerOptions(env, o)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	individual, combined := o.Individual, o.Combined
	if !individual && !combined {
		individual, combined = true, true
	}
	if individual {
		for _, opt := range opts {
			fmt.Fprintf(&out, "%s=\"%s\"\n", opt.variable, opt.flag)
		}
	}
	if combined {
		value, err := combine(existing, opts)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", o.Key, err)
		}
		fmt.Fprintf(&out, "%s=\"%s\"\n", o.Key, value)
	}
	return []byte(out.String()), nil
}

// dockerOptions validates env; the options stand in the order of their variables' names.
func dockerOptions(env Env, o Options) ([]option, error) {
	if env.Subnet == "" {
		return nil, fmt.Errorf("%s is missing or empty: without it Docker would choose a subnet of its own", keySubnet)
	}
	bip, err := netip.ParsePrefix(env.Subnet)
	if err != nil || !bip.Addr().Is4() {
		return nil, fmt.Errorf("%s %.64q: want an IPv4 address with a prefix length, like 10.5.72.1/24", keySubnet, env.Subnet)
	}
	opts := []option{{individualPrefix + "BIP", "--bip=" + bip.String()}}

	if env.IPMasq != "" && !o.NoIPMasq {
		masq, err := dockerMasquerades(env.IPMasq)
		if err != nil {
			return nil, err
		}
		opts = append(opts, option{individualPrefix + "IPMASQ", "--ip-masq=" + strconv.FormatBool(masq)})
	}
	if env.MTU != "" {
		mtu, err := parseMTU(env.MTU)
		if err != nil {
			return nil, err
		}
		opts = append(opts, option{individualPrefix + "MTU", "--mtu=" + strconv.Itoa(mtu)})
	}
	return opts, nil
}

// dockerMasquerades inverts FLANNEL_IPMASQ: Docker masquerades where the overlay does not.
func dockerMasquerades(ipMasq string) (bool, error) {
	switch ipMasq {
	case "true":
		return false, nil
	case "false":
		return true, nil
	}
	return false, fmt.Errorf("%s %.64q: want true or false", keyIPMasq, ipMasq)
}

const (
	minMTU = 68    // bytes; every IPv4 link carries that much, RFC 791 3.2
	maxMTU = 65535 // bytes; the longest IPv4 packet, RFC 791 3.1
)

func parseMTU(s string) (int, error) {
	mtu, err := strconv.ParseUint(s, 10, 16)
	if err != nil || mtu < minMTU {
		return 0, fmt.Errorf("%s %.64q: want %d to %d", keyMTU, s, minMTU, maxMTU)
	}
	return int(mtu), nil
}

// escape makes a text safe inside double quotes for those who read the output: systemd's
// EnvironmentFile= and shells. The script does not, and so mangles a value with quotes.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`)

// ours matches the options that dockerOptions makes, with the blanks in front of them.
var ours = regexp.MustCompile(`(^|\s+)--(bip|ip-masq|mtu)=\S*`)

// combine joins the options as the script does: each has a blank in front, and an existing
// value one more behind it. What an earlier run has put into the existing value is left out:
// Docker's unit has that from the output file, which would grow at each start.
func combine(existing string, opts []option) (string, error) {
	if strings.ContainsAny(existing, "\n\r\x00") {
		return "", errors.New("has a line break or NUL, want a single line")
	}
	existing = ours.ReplaceAllString(existing, "")
	var value strings.Builder
	if existing != "" {
		value.WriteString(escape.Replace(existing) + " ")
	}
	for _, opt := range opts {
		value.WriteString(" " + opt.flag)
	}
	return value.String(), nil
}
