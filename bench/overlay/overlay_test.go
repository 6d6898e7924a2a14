package overlay

import (
	"context"
	"testing"
	"time"

	"twill/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// TestContenders starts every contender that is here; the kernel's own always
// are. twill needs a program, and the bench's own test gives it one.
func TestContenders(t *testing.T) {
	for _, c := range All(Options{}) {
		t.Run(c.Name(), func(t *testing.T) {
			if _, err := c.Find(); err != nil {
				if c.Name() == "routes" || c.Name() == "vxlan" {
					t.Fatal(err)
				}
				t.Log("not here:", err)
				return
			}
			carry(t, c)
		})
	}
}

// carry checks that a contender carries whole packets both ways.
func carry(t *testing.T, c Contender) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, err := lab.New(lab.Options{Hosts: 2, Output: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, err := c.Start(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Await(ctx); err != nil {
		t.Fatal(err)
	}
	if err := n.CheckMTU(ctx); err != nil {
		t.Error(err)
	}
	const bytes = 1 << 20
	if _, err := lab.Transfer(ctx, n.Pods[1], n.Pods[0], bytes); err != nil {
		t.Error(err)
	}
}
