package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/api"
	"twill/internal/daemon"
	"twill/internal/terminal"
)

// The exit codes of twill status, beside exitOK for a healthy daemon.
const (
	exitDegraded   = 1
	exitNotRunning = 2
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the daemon that runs here: health, lease, etcd, counters, drops",
		Description: "First what is wrong, each problem with what to do about it; then how the daemon is. A\n" +
			"notice is about what is wrong elsewhere, such as a few peers that are away: it does not\n" +
			"make this host degraded.\n\n" +
			"Exit code 0: healthy; 1: degraded, or the daemon cannot be asked; 2: no daemon runs, or\n" +
			"none is ready yet, or wrong usage.",
		Flags: []cli.Flag{runDirFlag(), jsonFlag(), watchFlag()},
		Action: func(c *cli.Context) error {
			degraded := false
			err := present(c, func(ctx context.Context) (s api.Status, err error) {
				if err = askDaemon(ctx, c, api.StatusPath, &s); err == nil {
					checkSchema(s.Schema)
					degraded = len(s.Problems) > 0
				}
				return s, err
			}, func(t *terminal.Table, s api.Status) { statusRows(t, s, time.Now()) })
			switch {
			case errors.Is(err, api.ErrNotRunning):
				return notRunning{whyNotRunning(c.String("run-dir"), err, time.Now())}
			case err == nil && degraded:
				return exitStatus(exitDegraded)
			}
			return err
		},
	}
}

// notRunning makes twill status end with exitNotRunning.
type notRunning struct{ error }

// whyNotRunning says what can be known when nobody answers, which err says: that a daemon is starting, or why the last one ended.
func whyNotRunning(runDir string, err error, now time.Time) error {
	if pid, starting := daemon.Starting(runDir); starting {
		err = fmt.Errorf("a twill daemon, process %d, is starting and not ready yet; its log says what it waits for", pid)
	}
	reason, at, readErr := daemon.LastEnd(runDir)
	if readErr != nil {
		return err // it ended as it should, or never ran
	}
	return fmt.Errorf("%w; the last one ended %s ago (%s): %s", err, terminal.Ago(at, now), at.Format(time.RFC3339), terminal.Printable(reason))
}

func statusRows(t *terminal.Table, s api.Status, now time.Time) {
	health(t, s.Problems, s.Notices)
	row := func(name, text string) {
		t.Row(terminal.Cell{Text: name, Style: terminal.Bold}, terminal.Text(text))
	}
	row("node", s.Node)
	row("lease", leaseCell(s))
	row("endpoint", fmt.Sprintf("%s:%d", s.PublicIP, s.Port))
	row("device", fmt.Sprintf("%s, MTU %d, %s", s.Device, s.MTU, plural(s.Queues, "queue")))
	row("peers", peersCell(s))
	row("etcd", etcdCell(s.Etcd, now))
	row("sent", countersCell(s.Tx))
	row("received", countersCell(s.Rx))
	for _, d := range []struct {
		direction string
		c         api.Counters
	}{{"out", s.Tx}, {"in", s.Rx}} {
		if len(d.c.Drops) > 0 {
			row("dropped "+d.direction, dropsCell(d.c.Drops))
		}
	}
	row("offloads", offloadsCell(s.Offloads))
	row("daemon", daemonCell(s, now))
}

// daemonCell does not tell how long an older daemon runs, which does not say so.
func daemonCell(s api.Status, now time.Time) string {
	cell := "twill " + s.Version
	if !s.Started.IsZero() {
		cell += ", runs for " + terminal.Ago(s.Started, now)
	}
	return cell
}

// health says in a word how the daemon is, and what is wrong, here and then elsewhere.
func health(t *terminal.Table, problems, notices []api.Problem) {
	word, style := "healthy", terminal.Green
	if len(problems) > 0 {
		word, style = "degraded: "+plural(len(problems), "problem"), terminal.Red
	}
	if len(notices) > 0 {
		word += ", " + plural(len(notices), "notice")
	}
	t.Line("", style, word)
	t.Line("", terminal.Plain, "")
	for i, p := range slices.Concat(problems, notices) {
		style := terminal.Yellow
		if i >= len(problems) {
			style = terminal.Plain
		}
		t.Line("  ", style, p.Problem)
		t.Line("  ", terminal.Plain, "→ "+p.Remedy)
		t.Line("", terminal.Plain, "")
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func leaseCell(s api.Status) string {
	cell := fmt.Sprintf("%s of %s", s.Subnet, s.Network)
	if s.LeaseLeft != nil {
		cell += fmt.Sprintf(", %s left", terminal.Span(time.Duration(*s.LeaseLeft*float64(time.Second))))
	}
	return cell
}

func etcdCell(e api.Etcd, now time.Time) string {
	since := terminal.Ago(e.Since, now)
	trouble := "away"
	if e.Refuses {
		trouble = "refuses what we ask"
	}
	switch {
	case !e.Cached.IsZero():
		return fmt.Sprintf("%s for %s, forwarding from the cache of %s", trouble, since, e.Cached.UTC().Format(time.RFC3339))
	case e.Refuses || !e.Reachable:
		return fmt.Sprintf("%s for %s, forwarding with the table of revision %d", trouble, since, e.Revision)
	}
	cell := fmt.Sprintf("answers for %s, table of revision %d", since, e.Revision)
	if e.Latency > 0 {
		cell += ", last answer in " + terminal.Milliseconds(e.Latency)
	}
	return cell
}

func peersCell(s api.Status) string {
	cell := fmt.Sprint(s.Peers)
	var states []string
	for _, state := range peerStates() {
		if n := s.PeerStates[api.PeerState(state)]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(states) > 0 {
		cell += ": " + strings.Join(states, ", ")
	}
	if s.Skipped > 0 {
		cell += fmt.Sprintf("; %s not used, see `twill peers --state incompatible`", plural(s.Skipped, "lease"))
	}
	return cell
}

// dropsCell names the reasons, the most frequent first.
func dropsCell(drops map[string]uint64) string {
	reasons := slices.SortedFunc(maps.Keys(drops), func(a, b string) int {
		return cmp.Or(cmp.Compare(drops[b], drops[a]), strings.Compare(a, b))
	})
	for i, reason := range reasons {
		reasons[i] = terminal.Count(drops[reason]) + " " + reason
	}
	return strings.Join(reasons, ", ")
}

func offloadsCell(offloads []api.Offload) string {
	var on, off []string
	for _, o := range offloads {
		if o.On {
			on = append(on, o.Name)
		} else {
			off = append(off, fmt.Sprintf("%s off: %s", o.Name, o.Why))
		}
	}
	if len(on) > 0 {
		off = append([]string{strings.Join(on, ", ") + " on"}, off...)
	}
	return strings.Join(off, "; ")
}

func countersCell(c api.Counters) string {
	return fmt.Sprintf("%s packets, %s", terminal.Count(c.Packets), terminal.Bytes(c.Bytes))
}
