// Package journal writes to systemd's journal through standard error: one record a line, the priority in front as sd-daemon(3)
// has it, so that `journalctl --priority` can choose, and no time of our own, because the journal has its.
package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/journal"
)

// IsStderr tells whether standard error leads to the journal: systemd.exec(5), JOURNAL_STREAM.
func IsStderr() bool {
	is, err := systemd.StderrIsJournalStream()
	return err == nil && is
}

// Prefix returns the priority of a level as a line begins with it.
func Prefix(level slog.Level) string { return fmt.Sprintf("<%d>", priority(level)) }

func priority(level slog.Level) systemd.Priority {
	switch {
	case level >= slog.LevelError:
		return systemd.PriErr
	case level >= slog.LevelWarn:
		return systemd.PriWarning
	case level >= slog.LevelInfo:
		return systemd.PriInfo
	}
	return systemd.PriDebug
}

// NewHandler returns a Handler that writes the records from level on to w: the message, then the attributes as
// [slog.TextHandler] writes them.
func NewHandler(w io.Writer, level slog.Leveler) slog.Handler {
	line := &line{out: w}
	return handler{line, slog.NewTextHandler(&line.text, &slog.HandlerOptions{Level: level, ReplaceAttr: attributesOnly})}
}

// attributesOnly drops what the line has elsewhere.
func attributesOnly(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// line is what all Handlers of one NewHandler write their records in.
type line struct {
	mu   sync.Mutex
	text bytes.Buffer
	out  io.Writer
}

type handler struct {
	line       *line
	attributes slog.Handler // writes to line.text
}

func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.attributes.Enabled(ctx, level)
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	h.line.mu.Lock()
	defer h.line.mu.Unlock()
	text := &h.line.text
	text.Reset()
	text.WriteString(Prefix(r.Level) + strings.ReplaceAll(r.Message, "\n", " ") + " ")
	if err := h.attributes.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.line.out.Write(append(bytes.TrimRight(text.Bytes(), " \n"), '\n'))
	return err
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.line, h.attributes.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.line, h.attributes.WithGroup(name)}
}
