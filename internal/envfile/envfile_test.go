package envfile

import (
	"os/exec"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name    string
		raw     string
		want    []Variable
		skipped []string
	}{
		{"plain", "A=1\nB=two\n", []Variable{{"A", "1"}, {"B", "two"}}, nil},
		{"no last newline", "A=1", []Variable{{"A", "1"}}, nil},
		{"comments and blank lines", "# A=1\n\n  ; B=2\n\tC=3\n", []Variable{{"C", "3"}}, nil},
		{"blanks", "A =  one two \t\r\nB=\n", []Variable{{"A", "one two"}, {"B", ""}}, nil},
		{"double quotes", `A="a \"b\" \\ \$x \n"`, []Variable{{"A", `a "b" \ $x \n`}}, nil},
		{"single quotes", `A='a "b" \ $x'`, []Variable{{"A", `a "b" \ $x`}}, nil},
		{"quotes joined", `A="a b"' c'd`, []Variable{{"A", "a b cd"}}, nil},
		{"quoted newline", "A='a\nb'\nB=1", []Variable{{"A", "a\nb"}, {"B", "1"}}, nil},
		{"open quote", "A=\"a\nB=1", []Variable{{"A", "a\nB=1"}}, nil},
		{"continued", "A=a\\\nb\nB=\"c\\\nd\"", []Variable{{"A", "ab"}, {"B", "cd"}}, nil},
		{"escaped", `A=a\ b\"`, []Variable{{"A", `a b"`}}, nil},
		{"hash in a value", "A=a#b # c", []Variable{{"A", "a#b # c"}}, nil},
		{"equals in a value", "FLANNEL_OPTIONS=--iface=eth0 --ip-masq", []Variable{{"FLANNEL_OPTIONS", "--iface=eth0 --ip-masq"}}, nil},
		{"twice", "A=1\nA=2", []Variable{{"A", "1"}, {"A", "2"}}, nil},
		{"skipped", "export A=1\nnonsense\n1A=2\nB=3", []Variable{{"B", "3"}}, []string{"export A=1", "nonsense", "1A=2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vars, skipped := Parse([]byte(tt.raw))
			if !reflect.DeepEqual(vars, tt.want) || !reflect.DeepEqual(skipped, tt.skipped) {
				t.Errorf("got %q, skipped %q; want %q, %q", vars, skipped, tt.want, tt.skipped)
			}
		})
	}
}

// What Quote writes, a shell reads as it was.
func TestQuoteForShell(t *testing.T) {
	for _, value := range []string{"", "http://192.0.2.1:2379,http://192.0.2.2:2379", "eth[0-9] x", `a"b'c\d$e` + "`f`", "#x", " "} {
		out, err := exec.Command("sh", "-c", "A="+Quote(value)+`; printf %s "$A"`).Output()
		if err != nil || string(out) != value {
			t.Errorf("%q written as %s: shell reads %q, %v", value, Quote(value), out, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("A=1\n# b\nB=\"x\\\"y\" 'z'\\\n c\nexport D=1")
	f.Fuzz(func(t *testing.T, raw string) {
		vars, _ := Parse([]byte(raw))
		for _, v := range vars {
			if !validName.MatchString(v.Name) {
				t.Fatalf("name %q", v.Name)
			}
			if strings.ContainsRune(v.Value, 0) {
				continue
			}
			again, skipped := Parse([]byte(v.Name + "=" + Quote(v.Value) + "\n"))
			if len(again) != 1 || again[0] != v || skipped != nil {
				t.Fatalf("%q is read back as %q, skipped %q", v, again, skipped)
			}
		}
	})
}
