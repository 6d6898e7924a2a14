package daemon

import (
	"errors"
	"os"
	"testing"
)

// What is told of an end is one line, of whatever it was made.
func TestLastEndIsOneLine(t *testing.T) {
	d := &daemon{Config: Config{RunDir: t.TempDir()}, lock: os.Stdin}
	d.noteEnd(errors.Join(errors.New("a loop died"), errors.New("so did another")))
	if reason, _, err := LastEnd(d.RunDir); err != nil || reason != "a loop died; so did another" {
		t.Errorf("got %q, %v", reason, err)
	}
	d.forgetEnd()
	if _, _, err := LastEnd(d.RunDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still told: %v", err)
	}
}
