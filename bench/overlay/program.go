package overlay

import (
	"fmt"
	"os/exec"
	"strings"
)

// findProgram looks for a program and returns what it prints as its version: the
// first line. debian is the Debian package that has it.
func findProgram(name, debian string, versionArgs ...string) (version string, err error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no program %s (apt-get install %s)", name, debian)
	}
	out, err := exec.Command(path, versionArgs...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" { // some end with an error after they have said it
		return "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	return line, nil
}
