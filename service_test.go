package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What systemd and a liveness probe see.
func TestServiceInterfaces(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	h := c.Hosts[0]
	p := c.start(h, "--healthz-ip", h.Addr().String(), "--healthz-port", "10256")
	want := fmt.Sprintf("holds %s of %s, 0 peers", c.subnetOf(h), testNetwork)
	if got := p.Status(); got != want {
		t.Errorf("STATUS=%q, want %q", got, want)
	}
	c.start(c.Hosts[1])
	c.waitFor("STATUS= with the new peer", func() error {
		if s := p.Status(); !strings.HasSuffix(s, "1 peers") {
			return fmt.Errorf("status is %q", s)
		}
		return nil
	})
	client := http.Client{Timeout: patience} // the lab's own namespace is on the underlay
	resp, err := client.Get(fmt.Sprintf("http://%s:10256/healthz", h.Addr()))
	c.must(err)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s %q, %v; want 200", resp.Status, body, err)
	}
	c.stop(p)
	select {
	case <-p.Stopping():
	case <-time.After(patience):
		t.Error("no STOPPING=1 before the end")
	}
}

// The watchdog is fed while all is well.
func TestWatchdog(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", fmt.Sprint((600 * time.Millisecond).Microseconds()))
	c := newCluster(t, 1, network(testNetwork))
	p := c.start(c.Hosts[0])
	c.waitFor("WATCHDOG=1 three times", func() error {
		if n := p.Watchdog(); n < 3 {
			return fmt.Errorf("came %d times", n)
		}
		return nil
	})
}
