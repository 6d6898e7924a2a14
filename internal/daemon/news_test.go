package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/time/rate"

	"twill/subnet"
)

// Whoever may write to etcd may not fill the disks of all hosts with logs.
func TestNewsIsBounded(t *testing.T) {
	var out bytes.Buffer
	n := newNews(slog.New(slog.NewTextHandler(&out, nil)))
	n.limit = rate.NewLimiter(0, newsBurst)
	views := [2]subnet.View{}
	for i := range 5000 {
		addr := netip.AddrFrom4([4]byte{10, 5, byte(i >> 8), byte(i)})
		views[1].Peers = append(views[1].Peers, &subnet.Peer{Lease: subnet.Lease{Key: subnet.Key{Subnet: netip.PrefixFrom(addr, 32)}}})
	}
	for i := range 6 {
		n.changes(views[i%2], views[(i+1)%2])
	}
	if got := strings.Count(out.String(), "\n"); got != newsBurst {
		t.Errorf("%d lines, want %d", got, newsBurst)
	}
	out.Reset()
	n.limit = rate.NewLimiter(rate.Inf, 0)
	n.skipped(subnet.Skipped{Lease: subnet.Lease{Name: strings.Repeat("x", 1<<20), Err: errors.New("bad")}, Problem: "bad"})
	if got := out.String(); len(got) > 1000 || !strings.Contains(got, "untold=29900") {
		t.Errorf("%d bytes: %.300s", len(got), got)
	}
}
