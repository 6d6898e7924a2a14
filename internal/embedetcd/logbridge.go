package embedetcd

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// usual are messages of every first start: the version is asked for before the
// first write reached the disk, and asked for again some seconds later.
var usual = map[string]bool{
	"Failed to detect schema version":  true,
	"failed to update storage version": true,
}

// logBridge carries what etcd logs through zap over to slog. While etcd starts
// only errors pass: its warnings then are about a configuration that the user
// did not write. While it stops only a fault that ends it passes: each listener
// calls its own closing an error.
//
// etcd ends the process by a fatal or panic entry. Here such an entry ends the
// goroutine that wrote it and is reported as the server's error instead: the
// process has a data plane to keep.
type logBridge struct {
	log   *slog.Logger
	level zap.AtomicLevel
	fatal func(error)
	with  []zapcore.Field
}

func newLogBridge(log *slog.Logger, fatal func(error)) *logBridge {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &logBridge{log: log, level: zap.NewAtomicLevelAt(zap.ErrorLevel), fatal: fatal}
}

// announce lets warnings through from now on; hush holds errors back too.
func (b *logBridge) announce() { b.level.SetLevel(zap.WarnLevel) }
func (b *logBridge) hush()     { b.level.SetLevel(zap.DPanicLevel) }

// zap is the logger to give to etcd.
func (b *logBridge) zap() *zap.Logger {
	return zap.New(b, zap.WithFatalHook(b), zap.WithPanicHook(b))
}

// Enabled, With, Check, Write and Sync make a [zapcore.Core] of b.
func (b *logBridge) Enabled(l zapcore.Level) bool { return b.level.Enabled(l) }

func (b *logBridge) With(fields []zapcore.Field) zapcore.Core {
	child := *b
	child.with = append(b.with[:len(b.with):len(b.with)], fields...)
	return &child
}

func (b *logBridge) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) && !usual[e.Message] {
		return ce.AddCore(e, b)
	}
	return ce
}

func (b *logBridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	b.log.LogAttrs(context.Background(), level, "etcd: "+e.Message, b.attrs(fields)...)
	return nil
}

func (b *logBridge) Sync() error { return nil }

// OnWrite is called after a fatal or panic entry was written, and must not
// return to the code that believes it ended the process.
func (b *logBridge) OnWrite(ce *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := fmt.Errorf("etcd gave up: %s", ce.Message)
	for _, a := range b.attrs(fields) {
		err = fmt.Errorf("%w, %s", err, a)
	}
	b.fatal(err)
	runtime.Goexit()
}

// attrs translates zap's fields, in their order. A field may become several
// values in zap's encoding (an error and its details); all are kept.
func (b *logBridge) attrs(fields []zapcore.Field) []slog.Attr {
	var attrs []slog.Attr
	for _, f := range append(b.with[:len(b.with):len(b.with)], fields...) {
		enc := zapcore.NewMapObjectEncoder()
		f.AddTo(enc)
		for k, v := range enc.Fields {
			attrs = append(attrs, slog.Any(k, v))
		}
	}
	return attrs
}
