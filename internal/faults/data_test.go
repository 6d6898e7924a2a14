package faults

import (
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sys/unix"
)

// What happens to etcd's data.
func TestData(t *testing.T) {
	t.Parallel()
	applyFaults(t, worldOptions{members: 1, daemons: 3}, []fault{
		{name: "compaction past the watch", apply: compactedPastTheWatch},
		{name: "data directory wiped", quick: true, apply: wiped},
		{name: "restored from an older backup", vanishes: true, apply: restored},
		{name: "no space (NOSPACE alarm)", apply: func(w *world) func() {
			w.alarm(etcdserverpb.AlarmRequest_ACTIVATE)
			if _, err := w.etcd.client.Put(w.rpc(), prefix+"/x", "x"); err == nil {
				w.t.Fatal("etcd with a NOSPACE alarm takes a write")
			}
			return func() { w.alarm(etcdserverpb.AlarmRequest_DEACTIVATE) }
		}},
	})
}

// compactedPastTheWatch resets the connections of daemons that are paused,
// changes leases and compacts the changes away. When the daemons go on, etcd
// answers them at once, so nothing but the watch tells that it cannot go on from
// where it was.
func compactedPastTheWatch(w *world) func() {
	w.pauseDaemons(unix.SIGSTOP)
	lift := filtered(refuse)(w)
	for range 10 {
		w.mark()
	}
	resp, err := w.etcd.client.Get(w.rpc(), prefix+"/config")
	w.must(err)
	_, err = w.etcd.client.Compact(w.rpc(), resp.Header.Revision)
	w.must(err)
	lift()
	w.pauseDaemons(unix.SIGCONT)
	return nil
}

// pauseDaemons signals every daemon; packets wait in their queues meanwhile, for
// seconds at the streams' rate.
func (w *world) pauseDaemons(s unix.Signal) {
	w.t.Helper()
	for _, d := range w.daemons {
		w.must(d.Signal(s))
	}
}

func wiped(w *world) func() {
	m := w.etcd.members[0]
	m.kill()
	w.must(m.wipe())
	return func() {
		w.must(w.etcd.start(w.patient()))
		w.putConfig()
	}
}

// restored puts back what etcd had many revisions ago, when the last daemon had
// another marker and one lease was not there yet.
func restored(w *world) func() {
	m := w.etcd.members[0]
	backup := filepath.Join(m.host.Dir(), "backup")
	w.must(m.backup(backup))
	const since = 50
	for range since {
		w.mark()
	}
	later := leaseKey(freshSubnet)
	w.put(later, leaseValue("later", anywhere(freshPort)))
	w.waitAgreement()
	m.kill()
	w.must(m.restore(backup))
	return func() {
		w.must(w.etcd.start(w.patient()))
		resp, err := w.etcd.client.Get(w.rpc(), later)
		w.must(err)
		if resp.Count != 0 {
			w.t.Errorf("the restored etcd holds %s, which is younger than the backup", later)
		}
	}
}

// alarm raises or clears etcd's alarm of a database that is full.
func (w *world) alarm(action etcdserverpb.AlarmRequest_AlarmAction) {
	w.t.Helper()
	_, err := etcdserverpb.NewMaintenanceClient(w.etcd.client.ActiveConnection()).Alarm(w.rpc(), &etcdserverpb.AlarmRequest{
		Action:   action,
		MemberID: w.memberID(),
		Alarm:    etcdserverpb.AlarmType_NOSPACE,
	})
	w.must(err)
}

func (w *world) memberID() uint64 {
	w.t.Helper()
	resp, err := w.etcd.client.Status(w.rpc(), w.etcd.urls()[0])
	w.must(err)
	return resp.Header.MemberId
}
