package subnet

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNodeID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "load")
	if _, err := ReadNodeID(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before there is one: %v, want fs.ErrNotExist", err)
	}
	id, err := LoadNodeID(dir)
	if err != nil || len(id) != 2*nodeIDBytes {
		t.Fatalf("first load: %q, %v", id, err)
	}
	if again, err := LoadNodeID(dir); again != id || err != nil {
		t.Errorf("second load: %q, %v; want %q", again, err, id)
	}
	if read, err := ReadNodeID(dir); read != id || err != nil {
		t.Errorf("read: %q, %v; want %q", read, err, id)
	}
	if other, err := LoadNodeID(t.TempDir()); other == id || err != nil {
		t.Errorf("another directory: %q, %v; want another id", other, err)
	}
	if v := (Identity{NodeID: id, Node: "n", PublicIP: us.PublicIP, Port: 1}).value(); v.Check() != nil {
		t.Errorf("an id that a lease cannot hold: %v", v.Check())
	}
}

// To guess another identity would cost the node its subnet.
func TestNodeIDIsNotGuessed(t *testing.T) {
	for _, content := range []string{"", "\n", "abc", strings.Repeat("g", 32), strings.Repeat("a", 30), strings.Repeat("a", 34)} {
		dir := t.TempDir()
		if err := os.WriteFile(NodeIDPath(dir), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := LoadNodeID(dir)
		if err == nil || !strings.Contains(err.Error(), "want 32 hex digits") || !strings.Contains(err.Error(), NodeIDPath(dir)) {
			t.Errorf("%q: %v, want an error that names the file", content, err)
		}
		if kept, _ := os.ReadFile(NodeIDPath(dir)); string(kept) != content {
			t.Errorf("%q was overwritten with %q", content, kept)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadNodeID(filepath.Join(file, "state")); err == nil {
		t.Error("a state directory below a file: no error")
	}
	// As on a read-only disk. A host that has an id needs to write none.
	if _, err := LoadNodeID("/proc"); err == nil || !strings.Contains(err.Error(), "/proc yet") || !strings.Contains(err.Error(), "has to be writable") {
		t.Errorf("a state directory that nobody can write to: %v, want an error that says so", err)
	}
}
