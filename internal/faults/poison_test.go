package faults

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// What somebody who may write to etcd writes there. None of it is used, and it
// costs no other lease.
func TestPoison(t *testing.T) {
	t.Parallel()
	applyFaults(t, worldOptions{members: 1, daemons: 3}, []fault{
		{name: "peers' keys: bad", apply: poison(func(*world) map[string]string {
			good := leaseValue(hostile, anywhere(freshPort))
			return map[string]string{
				"":                           good,
				"x":                          good,
				"10.5.253.00-24":             good,
				"10.5.253.1-24":              good,
				"10.5.253.0-99":              good,
				"10.5.253.0/24":              good,
				"\x00\xff\x1b[J":             good,
				strings.Repeat("1", 100_000): good,
			}
		})},
		{name: "peers' values: bad JSON", apply: poison(func(*world) map[string]string {
			return map[string]string{
				"10.5.240.0-24": "",
				"10.5.241.0-24": "not JSON",
				"10.5.242.0-24": `{"PublicIP":"192.0.2.9"`,
				"10.5.243.0-24": `[]`,
				"10.5.244.0-24": `{"PublicIP":["192.0.2.9"]}`,
				"10.5.245.0-24": `{"PublicIP":"192.0.2.9","BackendData":{"Proto":1,"Node":"hostile","Port":-1}}`,
				"10.5.246.0-24": strings.Repeat(`{"PublicIP":`, 10_000),
			}
		})},
		{name: "peers' values: 1 MB of JSON", apply: poison(func(*world) map[string]string {
			values := map[string]string{}
			for i := range 20 {
				values[fmt.Sprintf("10.5.%d.0-24", 220+i)] = fmt.Sprintf(
					`{"PublicIP":"192.0.2.9","BackendData":{"Proto":1,"Node":"hostile","Port":9,"X":%q}}`, strings.Repeat("x", 1<<20))
			}
			return values
		})},
		{name: "peers' subnets: hostile", quick: true, apply: poison(func(w *world) map[string]string {
			good := leaseValue(hostile, anywhere(freshPort))
			ours := w.subnets[0].Addr()
			return map[string]string{
				"0.0.0.0-0":                          good,
				"10.0.0.0-8":                         good,
				"10.5.0.0-16":                        good,
				"192.0.2.0-24":                       good,
				"10.6.1.0-24":                        good,
				fmt.Sprintf("%s-25", ours):           good,
				fmt.Sprintf("%s-32", ours):           good,
				fmt.Sprintf("%s-23", ours):           good,
				fmt.Sprintf("%s-24&fd00::-64", ours): good,
			}
		})},
		{name: "peers' endpoints: hostile", apply: poison(func(w *world) map[string]string {
			values := map[string]string{}
			for i, endpoint := range []string{
				"127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "10.5.3.3", "::1", "fe80::1", "",
			} {
				values[fmt.Sprintf("10.5.%d.0-24", 240+i)] = fmt.Sprintf(`{"PublicIP":%q,"BackendData":{"Proto":1,"Node":"hostile","NodeID":"x","Port":8285}}`, endpoint)
			}
			return values
		})},
		{name: "a peer's endpoint claimed by another", vanishes: true, apply: poison(func(w *world) map[string]string {
			return map[string]string{"10.5.240.0-24": leaseValue("neighbour", netip.AddrPortFrom(w.hosts[1].Addr(), 8285))}
		})},
		{name: "500 keys changed a second", vanishes: true, atLeast: churnTime, apply: churn},
	})
}

// poison puts keys below subnets/ that no host would write, sees that the tables
// lack them, and deletes them again.
func poison(values func(*world) map[string]string) func(*world) func() {
	return func(w *world) func() {
		subnets := prefix + "/subnets/"
		for name, value := range values(w) {
			w.put(subnets+name, value)
		}
		w.waitTruth()
		return func() {
			for name := range values(w) {
				w.delete(subnets + name)
			}
		}
	}
}

const (
	churnTime = time.Minute
	churnRate = 500 // key changes a second
	churnKeys = 100
)

// churn changes peers' leases, each another endpoint every time, from several
// connections at the rate asked for.
func churn(w *world) func() {
	ctx, cancel := context.WithCancel(w.ctx)
	var group errgroup.Group
	begin, changes := time.Now(), 0
	group.SetLimit(16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second / churnRate)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			for due := int(time.Since(begin).Seconds() * churnRate); changes < due && ctx.Err() == nil; changes++ {
				key, value := churned(changes%churnKeys), leaseValue("churned", anywhere(uint16(30000+changes%10000)))
				group.Go(func() error {
					_, err := w.etcd.client.Put(ctx, key, value)
					return err
				})
			}
		}
	}()
	return func() {
		cancel()
		<-done
		group.Wait() // the last ones were cancelled
		if rate := float64(changes) / time.Since(begin).Seconds(); rate < churnRate/2 {
			w.t.Errorf("%.0f keys changed a second, want some %d", rate, churnRate)
		}
		_, err := w.etcd.client.Delete(w.rpc(), churned(0), clientv3.WithRange(churned(churnKeys)))
		w.must(err)
	}
}

// churned is the i-th key that churn changes, in the order of keys.
func churned(i int) string {
	return leaseKey(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(100 + i), 0}), 24))
}
