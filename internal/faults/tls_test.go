package faults

import (
	"testing"
	"time"
)

// What happens to certificates. New connections alone see it, so etcd restarts
// each time.
func TestCertificates(t *testing.T) {
	t.Parallel()
	p := clientsPKI(t)
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
			w.rotateCA()
			w.restartEtcd()
			return nil
		}},
	})
}

// Certificates are rotated as an operator of three members does it: a new one for
// all, then one member after the other starts again. etcd serves all the time.
func TestCertificatesOfCluster(t *testing.T) {
	t.Parallel()
	p := clientsPKI(t)
	applyFaults(t, worldOptions{members: 3, daemons: 2, store: storeOptions{pki: p}, args: p.daemonArgs()}, []fault{
		{name: "certificates of three members rotated", apply: func(w *world) func() {
			for _, name := range []string{etcdCert, daemonCert} {
				w.issue(name, valid)
			}
			w.restartInTurn()
			return nil
		}},
		{name: "CA of three members rotated", apply: func(w *world) func() {
			w.rotateCA()
			w.restartInTurn()
			return nil
		}},
	})
}

// rotateCA makes a new authority, and all certificates anew by it.
func (w *world) rotateCA() {
	w.t.Helper()
	w.must(w.options.store.pki.renewCA())
	for _, name := range []string{etcdCert, daemonCert, operatorCert} {
		w.issue(name, valid)
	}
}

// clientsPKI is an authority with the certificates of etcd's clients.
func clientsPKI(t *testing.T) *pki {
	t.Helper()
	p, err := newPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{daemonCert, operatorCert} {
		if err := p.issue(name, valid); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// restartInTurn restarts one member after the other; each serves before the next
// one ends.
func (w *world) restartInTurn() {
	w.t.Helper()
	for _, m := range w.etcd.members {
		w.must(m.stop(w.patient()))
		w.must(w.etcd.start(w.patient()))
	}
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
