package faults

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	operator      = "root"
	user          = "twill"
	password      = "correct-horse"
	otherPassword = "battery-staple"

	// tokenLife is how long a login lasts in these tests.
	tokenLife = 2 * time.Second
)

// What happens to the daemons' login at etcd.
func TestLogins(t *testing.T) {
	t.Parallel()
	passwordFile := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(passwordFile, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	applyFaults(t, worldOptions{
		members: 1,
		daemons: 2,
		store:   storeOptions{tokenLife: tokenLife},
		args:    []string{"--etcd-username", user, "--etcd-password-file", passwordFile},
		prepare: enableLogins,
	}, []fault{
		{name: "login's token expired", apply: func(w *world) func() {
			w.letTokensExpire()
			_, err := w.etcd.client.Revoke(w.rpc(), w.leaseID(0))
			w.must(err)
			return nil
		}, after: (*world).wantSameSubnets},
		{name: "password changed, in the file later", apply: func(w *world) func() {
			_, err := w.etcd.client.UserChangePassword(w.rpc(), user, otherPassword)
			w.must(err)
			w.restartEtcd() // so that the daemons have to log in
			return func() { w.must(os.WriteFile(passwordFile, []byte(otherPassword), 0o600)) }
		}},
		{name: "rights taken away", apply: func(w *world) func() {
			_, err := w.etcd.client.UserRevokeRole(w.rpc(), user, user)
			w.must(err)
			return func() {
				_, err := w.etcd.client.UserGrantRole(w.rpc(), user, user)
				w.must(err)
			}
		}},
	})
}

// enableLogins makes a user who may touch the network's keys alone.
func enableLogins(w *world) {
	auth := w.etcd.client
	_, err := auth.RoleAdd(w.rpc(), user)
	w.must(err)
	_, err = auth.RoleGrantPermission(w.rpc(), user, prefix+"/", clientv3.GetPrefixRangeEnd(prefix+"/"), clientv3.PermissionType(clientv3.PermReadWrite))
	w.must(err)
	for _, name := range []string{operator, user} {
		_, err = auth.UserAdd(w.rpc(), name, password)
		w.must(err)
		_, err = auth.UserGrantRole(w.rpc(), name, name)
		w.must(err)
	}
	_, err = auth.AuthEnable(w.rpc())
	w.must(err)
	w.etcd.close()
	w.etcd.client, err = w.etcd.connect(operator, password)
	w.must(err)
}

// letTokensExpire waits for what shows in nothing but time.
func (w *world) letTokensExpire() { time.Sleep(2 * tokenLife) }
