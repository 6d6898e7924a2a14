package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"twill/internal/api"
	"twill/internal/lab"
)

// The TestDiagnose tests make a fault and read from what twill prints alone which it is, and what to do about it.

// checkArgs are the arguments of a twill check on h that knows what the daemon does there.
func (c *cluster) checkArgs(h *lab.Host, args ...string) []string {
	return append([]string{"check", "--json", "--run-dir", h.RunDir(), "--state-dir", h.StateDir(), "--etcd-endpoints", c.EtcdEndpoint()}, args...)
}

// check runs twill check on h, and checks that its exit code says what its findings do.
func (c *cluster) check(h *lab.Host, args ...string) ([]api.Finding, error) {
	out, err := h.Twill(c.ctx, c.checkArgs(h, args...)...)
	var report api.Check
	if bad := json.Unmarshal([]byte(out), &report); bad != nil {
		return nil, fmt.Errorf("%w: %w: %q", bad, err, out)
	}
	fails := false
	for _, f := range report.Findings {
		fails = fails || f.Level == api.LevelFail
		if (f.Level == api.LevelOK) != (f.Remedy == "") {
			c.t.Errorf("a finding of level %s with the remedy %q: %+v", f.Level, f.Remedy, f)
		}
	}
	if fails != (err != nil) {
		c.t.Errorf("twill check: %v, though its findings are %+v", err, report.Findings)
	}
	return report.Findings, nil
}

// waitFound waits until twill check on h has a finding with code, of which the text holds found and the remedy holds remedy.
func (c *cluster) waitFound(h *lab.Host, code, found, remedy string, args ...string) {
	c.t.Helper()
	begin := time.Now()
	c.waitFor(fmt.Sprintf("twill check on %s to find %s", h.Name, code), func() error {
		findings, err := c.check(h, args...)
		if err != nil {
			return err
		}
		var bad []string
		for _, f := range findings {
			if f.Level == api.LevelOK {
				continue
			}
			if f.Code == code && strings.Contains(f.Found, found) && strings.Contains(f.Remedy, remedy) {
				return nil
			}
			bad = append(bad, fmt.Sprintf("%+v", f))
		}
		return fmt.Errorf("it finds %s", strings.Join(bad, "\n"))
	})
	c.t.Logf("%s: found after %v", code, time.Since(begin).Round(10*time.Millisecond))
}

// waitHealthy waits until twill check finds nothing wrong on the hosts. What stays for a while after a fault, as the loss of the last
// half minute does, may be named in after.
func (c *cluster) waitHealthy(hosts []*lab.Host, after ...string) {
	c.t.Helper()
	for _, h := range hosts {
		c.waitFor("twill check to find nothing on "+h.Name, func() error {
			findings, err := c.check(h)
			for _, f := range findings {
				if f.Level != api.LevelOK && !slices.Contains(after, f.Code) {
					err = fmt.Errorf("it finds %+v", f)
				}
			}
			return err
		})
	}
}

// rule adds an iptables rule to a host, and returns what takes it away again.
func (c *cluster) rule(h *lab.Host, args ...string) (lift func()) {
	c.t.Helper()
	c.must(h.Exec(c.ctx, append([]string{"iptables", "-w", "-I"}, args...)...))
	return func() {
		c.t.Helper()
		c.must(h.Exec(c.ctx, append([]string{"iptables", "-w", "-D"}, args...)...))
	}
}

// leaseKey is the key of a subnet's lease.
func leaseKey(subnet netip.Prefix) string {
	return defaultPrefix + "/subnets/" + subnet.Addr().String() + "-24"
}
