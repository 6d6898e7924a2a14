// Package envfile reads files of environment variables as systemd does for EnvironmentFile= (systemd.exec(5)), so that a
// command sees the settings that the service sees. Nothing is expanded or executed.
package envfile

import (
	"regexp"
	"strings"
)

// Variable is one assignment.
type Variable struct {
	Name  string
	Value string
}

var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Parse returns the assignments in their order; of two of one name the later one counts, which is the caller's to see to.
// Skipped are the lines, without comments, that systemd would ignore with a warning.
//
// A value loses blanks around it. Single quotes keep what is in them; in double quotes a backslash escapes ", \, $ and `,
// outside of quotes any character. A backslash at the end of a line joins the next one to it.
func Parse(raw []byte) (vars []Variable, skipped []string) {
	rest := string(raw)
	for rest != "" {
		rest = strings.TrimLeft(rest, " \t\r\n")
		if rest == "" {
			break
		}
		line, after, _ := strings.Cut(rest, "\n")
		if line[0] == '#' || line[0] == ';' {
			rest = after
			continue
		}
		name, _, assigned := strings.Cut(line, "=")
		name = strings.TrimRight(name, " \t")
		if !assigned || !validName.MatchString(name) {
			skipped = append(skipped, strings.TrimSpace(line))
			rest = after
			continue
		}
		var value string
		value, rest = parseValue(rest[strings.Index(rest, "=")+1:])
		vars = append(vars, Variable{name, value})
	}
	return vars, skipped
}

// parseValue reads from behind the equals sign to the end of the logical line.
func parseValue(s string) (value, rest string) {
	var v strings.Builder
	kept := 0 // length of v up to which trailing blanks are meant
	s = strings.TrimLeft(s, " \t")
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\n':
			return v.String()[:kept], s[i+1:]
		case '\\':
			if i++; i == len(s) || s[i] == '\n' {
				continue
			}
			v.WriteByte(s[i])
			kept = v.Len()
		case '\'', '"':
			var quoted string
			quoted, i = parseQuoted(s, i)
			v.WriteString(quoted)
			kept = v.Len()
		default:
			v.WriteByte(c)
			if c != ' ' && c != '\t' && c != '\r' {
				kept = v.Len()
			}
		}
	}
	return v.String()[:kept], ""
}

// parseQuoted reads the quoted text whose first quote is s[at], and returns the index of the last one.
func parseQuoted(s string, at int) (text string, end int) {
	var t strings.Builder
	for i := at + 1; i < len(s); i++ {
		switch {
		case s[i] == s[at]:
			return t.String(), i
		case s[i] == '\\' && s[at] == '"' && i+1 < len(s):
			i++
			if s[i] == '\n' {
				continue
			}
			if !strings.ContainsRune("\"\\$`", rune(s[i])) {
				t.WriteByte('\\')
			}
			t.WriteByte(s[i])
		default:
			t.WriteByte(s[i])
		}
	}
	return t.String(), len(s)
}

// Quote writes a value so that Parse and systemd, and shells that source the file, read it back.
func Quote(value string) string {
	if plain.MatchString(value) {
		return value
	}
	return `"` + escaper.Replace(value) + `"`
}

var (
	plain   = regexp.MustCompile(`^[A-Za-z0-9_./:,@%+=-]*$`)
	escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")
)
