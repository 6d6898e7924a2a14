package subnet

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// ends waits for the end of a watch from revision on, and returns its reason.
func (h *node) ends(revision int64) error {
	h.t.Helper()
	events, err := h.registry.watch(h.t.Context(), revision)
	if err != nil {
		h.t.Fatal(err)
	}
	for timeout := time.After(patience); ; {
		select {
		case resp, open := <-events:
			if err := watchError(resp, open); err != nil {
				return err
			}
		case <-timeout:
			h.t.Fatal("the watch goes on")
		}
	}
}

func TestWatchOfWhatIsCompacted(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	n.putConfig(wideConfig)
	resp, err := n.client.Get(n.rpc(), n.configKey())
	n.must(err)
	if _, err := n.client.Compact(n.rpc(), resp.Header.Revision); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatal(err) // by another test, at a later revision
	}
	if err := n.dial(host(1)).ends(1); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("the watch ended with %v, want ErrCompacted", err)
	}
}

// A member that has lost the others has no events to tell.
func TestWatchOfAMemberWithoutLeader(t *testing.T) {
	t.Parallel()
	n := newStore(t).network(t, wideConfig)
	h := n.dial(host(1))
	s, err := h.registry.snapshot(n.rpc())
	n.must(err)
	_, err = n.client.MemberAdd(n.rpc(), []string{"http://127.0.0.1:1"}) // of two members one is away
	n.must(err)
	if err := h.ends(s.Revision + 1); !errors.Is(err, rpctypes.ErrNoLeader) {
		t.Errorf("the watch ended with %v, want ErrNoLeader", err)
	}
}
