package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// SIGTERM in the middle of a start: an iptables that hangs is not waited for,
// and the lease is given back.
func TestStopDuringStart(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	bin := t.TempDir()
	hung := filepath.Join(bin, "hung")
	script := "#!/bin/sh\ncase $1 in --version) echo 'iptables v1.8.9 (nf_tables)'; exit;; esac\n: >" + hung + "\nexec sleep 60\n"
	c.must(os.WriteFile(filepath.Join(bin, "iptables"), []byte(script), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	p, err := h.StartDaemon()
	c.must(err)
	c.waitFor("iptables to hang", func() error { _, err := os.Stat(hung); return err })

	begin := time.Now()
	c.stop(p)
	if d := time.Since(begin); d > stopLimit {
		t.Errorf("the stop took %v, want at most %v", d, stopLimit)
	}
	resp, err := c.etcd.Get(c.ctx, defaultPrefix+"/subnets/", clientv3.WithPrefix())
	c.must(err)
	if resp.Count != 0 {
		t.Errorf("left behind in etcd: %v", resp.Kvs)
	}
}
