package dockeropts

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is for a machine with much else to do.
const patience = 30 * time.Second

func TestWaitForEnv(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subnet.env")
	said := make(chan string, 1)
	done := make(chan error, 1)
	go func() { done <- WaitForEnv(t.Context(), path, func(line string) { said <- line }) }()
	select {
	case line := <-said:
		if !strings.Contains(line, path) {
			t.Errorf("said %q, want the file's name in it", line)
		}
	case err := <-done:
		t.Fatalf("returned %v without the file", err)
	case <-time.After(patience):
		t.Fatal("does not say that it waits")
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("does not see the file")
	}
}

func TestWaitForEnvEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	said := func(string) { cancel() }
	if err := WaitForEnv(ctx, filepath.Join(t.TempDir(), "absent"), said); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WaitForEnv(t.Context(), filepath.Join(path, "subnet.env"), func(string) {}); err == nil {
		t.Error("a file for a directory: no error")
	}
}
