package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"twill/internal/api"
	"twill/internal/lab"
)

// The level of a running daemon changes at once, in each format, and the change is logged however little is.
func TestLogLevelChangesAtRunTime(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			c := newCluster(t, 1, network(testNetwork))
			h := c.Hosts[0]
			p := c.start(h, "--log-level", "error", "--log-format", format)
			level := func(args ...string) string {
				t.Helper()
				var got api.LogLevel
				c.must(c.twillJSON(h, &got, append([]string{"log-level", "--json", "--run-dir", h.RunDir()}, args...)...))
				return got.Level
			}
			if got := level(); got != "error" {
				t.Errorf("the level is %s, want error", got)
			}
			if strings.Contains(p.Log(), "ready") {
				t.Errorf("the daemon logs what is no error:\n%s", p.Log())
			}
			if got := level("debug"); got != "debug" {
				t.Errorf("the level is %s, want debug", got)
			}
			c.waitLog(p, "the log level was changed")
			c.waitLog(p, fmt.Sprint(os.Getuid())) // by whom
			c.put(defaultPrefix+"/subnets/10.5.77.0-24", `{"PublicIP":"192.0.2.77"}`)
			c.waitLog(p, "peer joined")
			level("error")
			c.put(defaultPrefix+"/subnets/10.5.78.0-24", `{"PublicIP":"192.0.2.78"}`)
			c.waitPeers(h, 2)
			if strings.Contains(p.Log(), "10.5.78.0/24") {
				t.Error("the level was not raised again")
			}
			c.fails(h, exitUsage, "want debug, info, warn or error", "log-level", "--run-dir", h.RunDir(), "loud")
			c.stop(p)
			c.fails(h, exitFailed, "no twill daemon runs", "log-level", "--run-dir", h.RunDir())
		})
	}
}

func (c *cluster) waitLog(p *lab.Process, what string) {
	c.t.Helper()
	c.waitFor("the log to say "+what, func() error {
		if log := p.Log(); !strings.Contains(log, what) {
			return fmt.Errorf("it says:\n%s", log)
		}
		return nil
	})
}
