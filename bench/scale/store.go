package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"twill/internal/embedetcd"
	"twill/subnet"
)

const (
	prefix = "/coreos.com/network"
	// networkConfig has room for 65,534 hosts.
	networkConfig = `{"Network":"10.0.0.0/8"}`
	port          = subnet.DefaultPort
)

// runStore is an etcd with one member. Each request is answered by how many
// requests it has had from clients so far, by gRPC method.
func runStore(ctx context.Context, p *parent) error {
	dir, err := os.MkdirTemp("", "twill-scale-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := embedetcd.Start(ctx, embedetcd.Config{Dir: dir, Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		if err := p.read(&struct{}{}); err != nil {
			return err
		}
		counts, err := countRequests()
		if err != nil {
			return err
		}
		if err := p.answer(storeState{Endpoint: s.Endpoint(), Requests: counts}); err != nil {
			return err
		}
	}
}

type storeState struct {
	Endpoint string
	Requests requests
}

// requests counts, by gRPC method, the messages that clients have sent to etcd: one of a
// unary RPC, each of a stream.
type requests map[string]int

// countRequests reads etcd's own metrics.
func countRequests() (requests, error) {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return nil, fmt.Errorf("etcd's metrics: %w", err)
	}
	counts := requests{}
	for _, f := range families {
		if f.GetName() != "grpc_server_msg_received_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if n := int(m.GetCounter().GetValue()); n > 0 && l.GetName() == "grpc_method" {
					counts[l.GetValue()] += n
				}
			}
		}
	}
	return counts, nil
}

// since is what came after before.
func (r requests) since(before requests) requests {
	d := requests{}
	for method, n := range r {
		if n -= before[method]; n > 0 {
			d[method] = n
		}
	}
	return d
}

func (r requests) total() (n int) {
	for _, m := range r {
		n += m
	}
	return n
}

// store is an etcd in a child, as an operator sees it.
type store struct {
	*child
	endpoint string
	client   *clientv3.Client
}

// startStore starts an etcd that holds the network config.
func startStore(ctx context.Context) (*store, error) {
	c, err := start(ctx, "etcd")
	if err != nil {
		return nil, err
	}
	s := &store{child: c}
	if err := s.open(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *store) open(ctx context.Context) error {
	var state storeState
	if err := s.ask(struct{}{}, &state); err != nil {
		return err
	}
	s.endpoint = state.Endpoint
	var err error
	s.client, err = clientv3.New(clientv3.Config{Context: ctx, Endpoints: []string{s.endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	_, err = s.client.Put(ctx, prefix+"/config", networkConfig)
	return err
}

func (s *store) stop() {
	if s.client != nil {
		s.client.Close()
	}
	s.child.stop()
}

// requests are those so far.
func (s *store) requests() (requests, error) {
	var state storeState
	err := s.ask(struct{}{}, &state)
	return state.Requests, err
}

// writers bounds the requests under way while the store is filled: etcd writes
// what comes together to disk at once.
const writers = 64

// fill writes the leases of hosts first to first+n, each under an etcd lease of its own,
// as their daemons would.
func (s *store) fill(ctx context.Context, first, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for i := first; i < first+n; i++ {
		group.Go(func() error {
			grant, err := s.client.Grant(ctx, int64(subnet.DefaultTTL/time.Second))
			if err != nil {
				return err
			}
			_, err = s.put(ctx, i, port, clientv3.WithLease(grant.ID))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("fill etcd: %w", err)
	}
	return nil
}

// put writes the lease of host i and returns the revision.
func (s *store) put(ctx context.Context, i int, port uint16, option clientv3.OpOption) (int64, error) {
	id := identity(i)
	value := subnet.Value{
		PublicIP: id.PublicIP, BackendType: subnet.BackendUDP,
		Proto: 1, Node: id.Node, NodeID: id.NodeID, Port: port,
	}
	resp, err := s.client.Put(ctx, leaseKey(i), string(value.Marshal()), option)
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

func leaseKey(i int) string {
	return prefix + "/subnets/" + subnet.Key{Subnet: subnetOf(i)}.String()
}

// identity is host i's, with names as long as real ones.
func identity(i int) subnet.Identity {
	return subnet.Identity{
		NodeID:   fmt.Sprintf("%032x", i),
		Node:     fmt.Sprintf("node-%05d.dc1.example.net", i),
		PublicIP: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}),
		Port:     port,
	}
}

// subnetOf is host i's. 10.0.0.0/24 is nobody's.
func subnetOf(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte((i + 1) >> 8), byte(i + 1), 0}), 24)
}
