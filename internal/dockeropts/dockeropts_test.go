package dockeropts

import (
	"os/exec"
	"strings"
	"testing"
)

const (
	bip     = `DOCKER_OPT_BIP="--bip=10.1.74.1/24"` + "\n"
	masqOn  = `DOCKER_OPT_IPMASQ="--ip-masq=true"` + "\n"
	masqOff = `DOCKER_OPT_IPMASQ="--ip-masq=false"` + "\n"
	mtu     = `DOCKER_OPT_MTU="--mtu=1472"` + "\n"
)

// The wanted outputs were taken from mk-docker-opts.sh of Flannel v0.28 under dash.
func TestGenerate(t *testing.T) {
	full := Env{Subnet: "10.1.74.1/24", MTU: "1472", IPMasq: "false"}
	for _, tt := range []struct {
		name     string
		env      Env
		o        Options
		existing string
		want     string
	}{
		{"default", full, Options{}, "",
			bip + masqOn + mtu + `DOCKER_OPTS=" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"` + "\n"},
		{"-i", full, Options{Individual: true}, "--debug", bip + masqOn + mtu},
		{"-c", full, Options{Combined: true}, "",
			`DOCKER_OPTS=" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"` + "\n"},
		{"-i -c", full, Options{Individual: true, Combined: true}, "",
			bip + masqOn + mtu + `DOCKER_OPTS=" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"` + "\n"},
		{"-m", full, Options{NoIPMasq: true}, "",
			bip + mtu + `DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1472"` + "\n"},
		{"-m hides a bad IPMASQ", Env{Subnet: "10.1.74.1/24", IPMasq: "yes"}, Options{NoIPMasq: true, Individual: true}, "", bip},
		{"-k", full, Options{Combined: true, Key: "DOCKER_NETWORK_OPTIONS"}, "",
			`DOCKER_NETWORK_OPTIONS=" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"` + "\n"},
		{"existing value", full, Options{Combined: true}, "--debug --label=a",
			`DOCKER_OPTS="--debug --label=a  --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"` + "\n"},
		{"existing of an earlier run", full, Options{Combined: true}, "--debug --label=a  --bip=10.9.9.1/24 --ip-masq=false --mtu=1400",
			`DOCKER_OPTS="--debug --label=a  --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"` + "\n"},
		{"existing of an earlier run alone", full, Options{Combined: true}, " --bip=10.9.9.1/24 --ip-masq=false --mtu=1400",
			`DOCKER_OPTS=" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"` + "\n"},
		{"existing with other options like ours", full, Options{Combined: true}, "--bip6=a --mtus=1",
			`DOCKER_OPTS="--bip6=a --mtus=1  --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"` + "\n"},
		{"existing blank", full, Options{Combined: true}, " ",
			`DOCKER_OPTS="   --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"` + "\n"},
		{"existing single quotes", Env{Subnet: "10.1.74.1/24"}, Options{Combined: true}, "--label='a b'",
			`DOCKER_OPTS="--label='a b'  --bip=10.1.74.1/24"` + "\n"},
		{"daemon masquerades", Env{Subnet: "10.1.74.1/24", IPMasq: "true"}, Options{}, "",
			bip + masqOff + `DOCKER_OPTS=" --bip=10.1.74.1/24 --ip-masq=false"` + "\n"},
		{"subnet alone", Env{Subnet: "10.1.74.1/24"}, Options{}, "",
			bip + `DOCKER_OPTS=" --bip=10.1.74.1/24"` + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.o.Key == "" {
				tt.o.Key = DefaultKey
			}
			got, err := Generate(tt.env, tt.o, tt.existing)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

func TestGenerateErrors(t *testing.T) {
	const subnet = "10.1.74.1/24"
	for _, tt := range []struct {
		name     string
		env      Env
		key      string
		existing string
		want     []string
	}{
		{"no subnet", Env{MTU: "1472"}, "DOCKER_OPTS", "", []string{"FLANNEL_SUBNET", "missing"}},
		{"subnet without length", Env{Subnet: "10.1.74.1"}, "DOCKER_OPTS", "", []string{"FLANNEL_SUBNET", `"10.1.74.1"`, "prefix length"}},
		{"IPv6 subnet", Env{Subnet: "fd00::1/64"}, "DOCKER_OPTS", "", []string{"FLANNEL_SUBNET", "IPv4"}},
		{"two options in one", Env{Subnet: "10.1.74.1/24 --debug"}, "DOCKER_OPTS", "", []string{"FLANNEL_SUBNET"}},
		{"IPMASQ", Env{Subnet: subnet, IPMasq: "True"}, "DOCKER_OPTS", "", []string{"FLANNEL_IPMASQ", `"True"`, "true or false"}},
		{"MTU text", Env{Subnet: subnet, MTU: "big"}, "DOCKER_OPTS", "", []string{"FLANNEL_MTU", `"big"`, "68 to 65535"}},
		{"MTU small", Env{Subnet: subnet, MTU: "67"}, "DOCKER_OPTS", "", []string{"FLANNEL_MTU", `"67"`}},
		{"MTU large", Env{Subnet: subnet, MTU: "65536"}, "DOCKER_OPTS", "", []string{"FLANNEL_MTU", `"65536"`}},
		{"key empty", Env{Subnet: subnet}, "", "", []string{"-k", "shell variable"}},
		{"key with code", Env{Subnet: subnet}, "A;reboot", "", []string{"-k", `"A;reboot"`}},
		{"key of an option", Env{Subnet: subnet}, "DOCKER_OPT_BIP", "", []string{"-k", "DOCKER_OPT_"}},
		{"existing on two lines", Env{Subnet: subnet}, "X", "a\nb", []string{"environment variable X", "line break"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Generate(tt.env, Options{Key: tt.key}, tt.existing)
			if err == nil {
				t.Fatalf("no error, output %q", got)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

// A shell that sources the output gets the existing value back as it was.
func TestExistingSurvivesShell(t *testing.T) {
	for _, existing := range []string{
		`--label="a b"`, `--label='a b'`, `a\nb`, `$HOME`, "`id`", `\`, `\\"`, `!x`, `a  b`,
	} {
		out, err := Generate(Env{Subnet: "10.1.74.1/24"}, Options{Combined: true, Key: "X"}, existing)
		if err != nil {
			t.Fatal(err)
		}
		got, err := exec.Command("/bin/sh", "-c", string(out)+`printf %s "$X"`).Output()
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if want := existing + "  --bip=10.1.74.1/24"; string(got) != want {
			t.Errorf("existing %q: shell reads %q, want %q", existing, got, want)
		}
	}
}

func FuzzGenerate(f *testing.F) {
	f.Add([]byte("FLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n"), "", "DOCKER_OPTS", false, false, false)
	f.Add([]byte("export FLANNEL_SUBNET='10.1.74.1/24'"), `--label="a"`, "X", true, false, true)
	f.Add([]byte("FLANNEL_SUBNET=\"10.1.74.1/24\nFLANNEL_SUBNET="), "$(id)", "a b", false, true, false)
	f.Fuzz(func(t *testing.T, raw []byte, existing, key string, individual, combined, noIPMasq bool) {
		o := Options{Individual: individual, Combined: combined, Key: key, NoIPMasq: noIPMasq}
		out, err := Generate(ParseEnv(raw), o, existing)
		if err != nil {
			if out != nil {
				t.Fatalf("error %v with output %q", err, out)
			}
			return
		}
		for line := range strings.Lines(string(out)) {
			name, value, ok := strings.Cut(strings.TrimSuffix(line, "\"\n"), `="`)
			if !ok || (name != key && !strings.HasPrefix(name, "DOCKER_OPT_")) {
				t.Fatalf("line %q of %q is no assignment of an option", line, out)
			}
			if hasBareQuote(value) {
				t.Fatalf("value of line %q ends early", line)
			}
		}
		if !strings.Contains(string(out), "--bip=") {
			t.Fatalf("no --bip in %q", out)
		}
	})
}

// hasBareQuote tells whether s has a double quote that no backslash escapes.
func hasBareQuote(s string) bool {
	escaped := false
	for _, r := range s {
		if r == '"' && !escaped {
			return true
		}
		escaped = r == '\\' && !escaped
	}
	return escaped
}
