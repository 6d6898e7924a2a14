package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"twill/internal/daemon"
	"twill/subnet"
)

// host is one host's lease table.
type host struct {
	registry *subnet.Registry
	manager  *subnet.Manager
}

// log says what goes wrong; thousands of hosts that say what goes well would hide it.
var log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))

// join is what the daemon does until it holds its lease.
func join(ctx context.Context, endpoint string, i int, publish func(subnet.View)) (*host, error) {
	registry, err := subnet.Dial(ctx, subnet.EtcdConfig{Endpoints: []string{endpoint}, Prefix: prefix}, log)
	if err != nil {
		return nil, err
	}
	h := &host{registry: registry, manager: subnet.NewManager(registry, subnet.Options{
		Identity: identity(i),
		Previous: subnetOf(i),
		Grace:    time.Minute,
		Log:      log,
		Publish:  publish,
	})}
	if _, err := h.manager.Configure(ctx, nil); err != nil {
		return nil, err
	}
	if _, err := h.manager.Acquire(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// joinRequest is the only request to a node, and to a range.
type joinRequest struct {
	Endpoint string
	Host     int
}

// joined is a node's first answer: it has its lease and a table to forward by.
type joined struct {
	Took  time.Duration // from the start of the dialing
	Peers int
}

// settled is a node's second answer.
type settled struct {
	HeapBytes uint64 // what lives, after a collection
}

// runNode joins once and then follows the leases. It answers twice: when it can
// forward, and when it watches.
func runNode(ctx context.Context, p *parent) error {
	var request joinRequest
	if err := p.read(&request); err != nil {
		return err
	}
	began := time.Now()
	var table *daemon.Table // of the tunnel, made as the daemon does
	publish := func(v subnet.View) { table = table.Next(v) }
	h, err := join(ctx, request.Endpoint, request.Host, publish)
	if err != nil {
		return err
	}
	publish(h.manager.View())
	if err := p.answer(joined{Took: time.Since(began), Peers: len(table.Peers)}); err != nil {
		return err
	}
	if err := p.read(&struct{}{}); err != nil {
		return err
	}
	go h.manager.Run(ctx)
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if err := p.answer(settled{HeapBytes: memory.HeapAlloc}); err != nil {
		return err
	}
	err = p.read(&struct{}{}) // until its end
	runtime.KeepAlive(&table)
	return err
}

// runRange reads all leases once, as they are, and answers how long that took:
// what no host can be faster than.
func runRange(ctx context.Context, p *parent) error {
	var request joinRequest
	if err := p.read(&request); err != nil {
		return err
	}
	began := time.Now()
	client, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: []string{request.Endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	resp, err := client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("read %s: %w", prefix, err)
	}
	return p.answer(joined{Took: time.Since(began), Peers: len(resp.Kvs) - 1})
}
