// Command scale measures what a large network costs, on one machine:
//
//	go run ./bench/scale
//
// The flow: options.go reads the flags. An etcd, and everything that is a host,
// run as processes of their own (child.go), so that memory and CPU time can be
// told apart. store.go is the etcd and fills it with leases of hosts that do not
// exist; node.go is one host, fleet.go many in one process. join.go measures how
// a host joins a network of 10,000; watch.go what 1,000 hosts ask at rest, and
// how they follow changes, at two rates. result.go writes it down.
//
// Hosts here are a lease table each, made by the code of the daemon (package
// subnet), with a TCP connection to etcd each. They carry no packets. It needs no
// rights and talks on loopback only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if role, ok := childRole(); ok {
		os.Exit(runChild(role))
	}
	o, err := parseOptions(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2) // the flag package has said why
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// run measures, or shows an earlier result again.
func run(ctx context.Context, o options) error {
	if o.show != "" {
		result, err := load(o.show)
		if err != nil {
			return err
		}
		result.writeTable(os.Stdout)
		return nil
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o755); err != nil {
			return err
		}
		os.Setenv(profileEnv, o.profiles) // for the children
	}
	result, err := measure(ctx, o)
	if err != nil {
		return err
	}
	result.writeTable(os.Stdout)
	return result.save(o.out)
}

// say tells on stderr what begins, since the whole takes minutes.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// measure makes both measurements, each on an etcd of its own.
func measure(ctx context.Context, o options) (*result, error) {
	r := newResult(o)
	var err error
	if r.Join, err = measureJoin(ctx, o); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if r.Watch, err = measureWatch(ctx, o); err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	return r, nil
}
