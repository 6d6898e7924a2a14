package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twill/internal/lab"
)

// A password that nobody but etcd may see is looked for wherever a running daemon
// says something, with etcd and without.
func TestSecretsStaySecret(t *testing.T) {
	const secret = "mark-of-a-secret"
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	file := filepath.Join(t.TempDir(), "password")
	c.must(os.WriteFile(file, []byte(secret+"\n"), 0o600))
	for name, args := range map[string][]string{
		"in a file":          {"--etcd-password-file", file},
		"in the environment": nil,
	} {
		t.Run(name, func(t *testing.T) {
			if args == nil {
				t.Setenv("TWILL_ETCD_PASSWORD", secret)
			}
			p := c.start(h, append(args, "--etcd-username", "twill", "--log-level", "debug")...)
			said := c.everything(h, p)
			c.StopEtcd()
			c.waitFor("the daemon to notice", func() error {
				if s := p.Status(); !strings.Contains(s, "etcd is away") {
					return fmt.Errorf("status is %q", s)
				}
				return nil
			})
			said += c.everything(h, p)
			c.must(c.StartEtcd(c.ctx))
			c.stop(p)
			said += p.Log()
			if i := strings.Index(said, secret); i >= 0 {
				t.Errorf("the secret is said: …%s", said[max(0, i-200):i+len(secret)])
			}
			if !strings.Contains(said, "twill0") {
				t.Error("nothing was said at all")
			}
		})
	}
}

// everything is what p tells anybody: its log, its status and its files. What ps
// shows is what it was given.
func (c *cluster) everything(h *lab.Host, p *lab.Process) string {
	c.t.Helper()
	said := p.Log() + p.Status()
	for _, command := range [][]string{{"status"}, {"status", "--json"}, {"peers", "--json"}} {
		out, err := h.Twill(c.ctx, append(command, "--run-dir", h.RunDir())...)
		said += fmt.Sprintln(out, err) // a degraded host is an error
	}
	for _, dir := range []string{h.RunDir(), h.StateDir()} {
		c.must(filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			raw, err := os.ReadFile(path)
			said += string(raw)
			return err
		}))
	}
	return said
}
