package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadSettings(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for path, text := range map[string]string{
		first:  "TWILL_TEST_A=file\nTWILL_TEST_B=file\nTWILL_TEST_C=first\n",
		second: "TWILL_TEST_C=second\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TWILL_TEST_A", "environment")
	for _, name := range []string{"TWILL_TEST_B", "TWILL_TEST_C"} {
		t.Setenv(name, "") // restored in the end
		os.Unsetenv(name)
	}
	var stderr strings.Builder
	loadSettings([]string{"twill", "run"}, []string{first}, &stderr)
	if got := os.Getenv("TWILL_TEST_B"); got != "" {
		t.Errorf("twill run reads %q from the settings", got)
	}
	loadSettings([]string{"twill", "leases"}, []string{first, filepath.Join(dir, "absent"), second}, &stderr)
	for name, want := range map[string]string{"TWILL_TEST_A": "environment", "TWILL_TEST_B": "file", "TWILL_TEST_C": "second"} {
		if got := os.Getenv(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if stderr.Len() != 0 {
		t.Errorf("said %q", &stderr)
	}
	loadSettings([]string{"twill", "leases"}, []string{dir}, &stderr)
	if !strings.Contains(stderr.String(), dir) {
		t.Errorf("said %q about a file that cannot be read", &stderr)
	}
}
