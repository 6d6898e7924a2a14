// Command bench measures twill side by side with other ways to join hosts, all in
// one run on one machine:
//
//	go run ./bench
//
// The flow: options.go reads the flags. main builds twill, unless a program is
// given, and moves itself into namespaces of its own (package lab). run.go goes
// round after round through links and contenders: each gets two fresh hosts with
// a pod (package overlay) and does all workloads (package load). tables.go times
// the table of peers. The result (package report) is printed as a table and
// written to a directory as JSON and SVG charts.
//
// It needs root, or user namespaces, and iperf3. Contenders that are not
// installed are left out, and it says so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"twill/bench/load"
	"twill/bench/report"
	"twill/internal/lab"
)

func main() {
	options, err := parseOptions(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2) // the flag package has said why
	}
	code, err := bench(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = 1
	}
	os.Exit(code)
}

// bench does what the options ask for. In the outer process it returns the exit
// code of the inner one.
func bench(o options) (exitCode int, err error) {
	if o.draw != "" {
		return 0, redraw(o)
	}
	if err := load.Check(); err != nil {
		return 1, err
	}
	if o.twill == "" {
		// Here, because the inner process has no network to fetch modules by.
		dir, err := os.MkdirTemp("", "twill-bench")
		if err != nil {
			return 1, err
		}
		defer os.RemoveAll(dir)
		program := filepath.Join(dir, "twill")
		if err := buildTwill(program); err != nil {
			return 1, err
		}
		os.Args = append(os.Args, "--twill", program) // Enter starts the inner process with them
	}
	entered, exitCode, err := lab.Enter()
	if !entered || err != nil {
		return exitCode, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return 0, measure(ctx, o, os.Stdout, os.Stderr)
}

// buildTwill compiles the daemon of this module.
func buildTwill(path string) error {
	build := exec.Command("go", "build", "-o", path, "twill")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build twill: %w", err)
	}
	return nil
}

// measure runs everything and shows the result.
func measure(ctx context.Context, o options, out, progress io.Writer) error {
	result, err := run(ctx, o, progress)
	if err != nil {
		return err
	}
	result.WriteTable(out)
	return save(result, o.out)
}

// redraw shows an earlier result again.
func redraw(o options) error {
	result, err := report.Load(o.draw)
	if err != nil {
		return err
	}
	if o.markdown {
		_, err := io.WriteString(os.Stdout, result.Markdown(readmeContenders...))
		return err
	}
	result.WriteTable(os.Stdout)
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	return result.SaveCharts(o.out)
}

// readmeContenders are those that the README's tables compare with.
var readmeContenders = []string{"flannel", "wireguard-go", "fastd", "vxlan"}

// save writes the result and its charts to a directory.
func save(result *report.Result, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := result.Save(filepath.Join(dir, "result.json")); err != nil {
		return err
	}
	return result.SaveCharts(dir)
}
