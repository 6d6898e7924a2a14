package faults

import (
	"testing"
	"time"
)

// What happens to certificates. New connections alone see it, so etcd restarts
// each time.
func TestCertificates(t *testing.T) {
	t.Parallel()
	p, err := newPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{daemonCert, operatorCert} {
		if err := p.issue(name, valid); err != nil {
			t.Fatal(err)
		}
	}
	applyFaults(t, worldOptions{members: 1, daemons: 2, store: storeOptions{pki: p}, args: p.daemonArgs()}, []fault{
		{name: "etcd's certificate rotated", apply: func(w *world) func() {
			w.issue(etcdCert, valid)
			w.restartEtcd()
			return nil
		}},
		{name: "etcd's certificate expired", apply: func(w *world) func() {
			w.issue(etcdCert, expired)
			w.restartEtcd()
			return func() { w.issue(etcdCert, valid) }
		}},
		{name: "client's certificate rotated", apply: func(w *world) func() {
			w.issue(daemonCert, valid)
			w.restartEtcd()
			return nil
		}},
		{name: "client's certificate expired", apply: func(w *world) func() {
			w.issue(daemonCert, expired)
			w.restartEtcd()
			return func() { w.issue(daemonCert, valid) }
		}},
		{name: "CA rotated", apply: func(w *world) func() {
			w.must(p.renewCA())
			for _, name := range []string{etcdCert, daemonCert, operatorCert} {
				w.issue(name, valid)
			}
			w.restartEtcd()
			return nil
		}},
	})
}

// issue makes a new certificate for etcd, the daemons or the operator.
func (w *world) issue(name string, life time.Duration) {
	w.t.Helper()
	if name == etcdCert {
		w.must(w.etcd.issue(life))
		return
	}
	w.must(w.options.store.pki.issue(name, life))
}

func (w *world) restartEtcd() {
	w.t.Helper()
	w.etcd.members[0].kill()
	w.must(w.etcd.start(w.patient()))
}
