package daemon

import (
	"context"
	"log/slog"

	"golang.org/x/time/rate"

	"twill/subnet"
)

const (
	// newsBurst and newsPerSecond bound the log lines about other hosts' leases,
	// whose number others decide on: a join of many is told in full, a flood is
	// not.
	newsBurst     = 100
	newsPerSecond = 5
	// maxNameInLog is that of a key in bytes; etcd allows some 1.5 MB.
	maxNameInLog = 128
)

// news logs what happens to other hosts' leases, within bounds. It is publish's
// own.
type news struct {
	log   *slog.Logger
	limit *rate.Limiter
	left  int // out since the last line
}

func newNews(log *slog.Logger) *news {
	return &news{log: log, limit: rate.NewLimiter(newsPerSecond, newsBurst)}
}

func (n *news) say(level slog.Level, message string, args ...any) {
	if !n.limit.Allow() {
		n.left++
		return
	}
	if n.left > 0 {
		n.log.Warn("changes of leases come too fast to tell all", "untold", n.left)
		n.left = 0
	}
	n.log.Log(context.Background(), level, message, args...)
}

func (n *news) skipped(s subnet.Skipped) {
	name := s.Lease.Name
	if len(name) > maxNameInLog {
		name = name[:maxNameInLog] + "…"
	}
	n.say(slog.LevelWarn, "lease is not used", "lease", name, "problem", s.Problem)
}

// changes says which peers came, went or moved.
func (n *news) changes(old, new subnet.View) {
	for was, p := range subnet.Changes(old.Peers, new.Peers) {
		switch {
		case was == nil:
			n.say(slog.LevelInfo, "peer joined", "subnet", p.Subnet, "endpoint", p.Endpoint, "node", p.Node)
		case p == nil:
			n.say(slog.LevelInfo, "peer left", "subnet", was.Subnet, "endpoint", was.Endpoint, "node", was.Node)
		case was.Endpoint != p.Endpoint:
			n.say(slog.LevelInfo, "peer moved", "subnet", p.Subnet, "endpoint", p.Endpoint, "from", was.Endpoint, "node", p.Node)
		case was.Vanished.IsZero() && !p.Vanished.IsZero():
			n.say(slog.LevelInfo, "peer's lease vanished; it stays for the grace time", "subnet", p.Subnet, "node", p.Node)
		case !was.Vanished.IsZero() && p.Vanished.IsZero():
			n.say(slog.LevelInfo, "peer's lease is back", "subnet", p.Subnet, "node", p.Node)
		}
	}
	problems := make(map[string]string, len(old.Skipped))
	for _, s := range old.Skipped {
		problems[s.Lease.Name] = s.Problem
	}
	for _, s := range new.Skipped {
		if problems[s.Lease.Name] != s.Problem {
			n.skipped(s)
		}
	}
}
