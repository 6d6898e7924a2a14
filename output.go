package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/api"
	"twill/internal/daemon"
	"twill/internal/terminal"
)

// present prints what get returns, once or with --watch again and again: as JSON where --json asks for it, else as the table
// that rows fills.
func present[T any](c *cli.Context, get func(context.Context) (T, error), rows func(*terminal.Table, T)) error {
	interval, watch, err := watchInterval(c)
	if err != nil {
		return err
	}
	draw := func(w io.Writer) error {
		doc, err := get(c.Context)
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return writeJSON(w, doc)
		}
		table := terminal.Table{Colour: terminal.Coloured(c.App.Writer), Width: terminal.Width(c.App.Writer)}
		rows(&table, doc)
		_, err = table.WriteTo(w)
		return err
	}
	if !watch {
		return draw(c.App.Writer)
	}
	return terminal.Watch(c.Context, c.App.Writer, interval, draw)
}

// show is present for what is there already.
func show(c *cli.Context, doc any, rows func(*terminal.Table)) error {
	return present(c, func(context.Context) (any, error) { return doc, nil }, func(t *terminal.Table, _ any) { rows(t) })
}

func writeJSON(w io.Writer, doc any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// askDaemon gets the document at path from the daemon of --run-dir.
func askDaemon(ctx context.Context, c *cli.Context, path string, doc any) error {
	return api.Get(ctx, daemon.SocketPath(c.String("run-dir")), path, doc)
}

// checkSchema warns where the daemon is newer than this program, and may mean something else.
func checkSchema(schema int) {
	if schema > api.Schema {
		fmt.Fprintf(os.Stderr, "twill: the daemon's answers follow schema %d, of which this program knows %d: use the twill that the daemon is\n", schema, api.Schema)
	}
}

const (
	watchDefault = 2 * time.Second
	watchMin     = 200 * time.Millisecond
)

// watchFlag is --watch[=INTERVAL].
func watchFlag() cli.Flag {
	return optionalFlag{&cli.GenericFlag{Name: "watch", Value: new(optionalValue),
		Usage: "show it again every two seconds, or as often as --watch=INTERVAL says; Ctrl-C ends it"}}
}

// watchInterval returns how often to show a thing, and whether more than once.
func watchInterval(c *cli.Context) (interval time.Duration, watch bool, err error) {
	value, ok := c.Generic("watch").(*optionalValue)
	if !ok || *value == "" || *value == "false" {
		return 0, false, nil
	}
	if *value == "true" {
		return watchDefault, true, nil
	}
	if interval, err = time.ParseDuration(string(*value)); err != nil || interval < watchMin {
		return 0, false, usagef("watch: %q; want a time of at least %v, as --watch=5s", string(*value), watchMin)
	}
	return interval, true, nil
}

// optionalFlag is a flag that may have a value, behind an equals sign.
type optionalFlag struct{ *cli.GenericFlag }

func (optionalFlag) TakesValue() bool { return false }

func (f optionalFlag) String() string { return cli.FlagStringer(f) }

// optionalValue is "true" for a flag without a value.
type optionalValue string

func (v *optionalValue) Set(s string) error { *v = optionalValue(s); return nil }
func (v *optionalValue) String() string     { return string(*v) }
func (v *optionalValue) IsBoolFlag() bool   { return true }

func number[T uint16 | uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }
