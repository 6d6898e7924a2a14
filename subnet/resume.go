package subnet

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// restarts of a watch that ends again and again.
type restarts struct {
	wait    backoff
	resumed int // times in a row
}

// resumesMost is how often in a row a watch is resumed while etcd answers all else.
const resumesMost = 3

// resume reports whether a watch that ended with err, after a time, is to go on where
// it was. Else all leases are read again.
func (r *restarts) resume(err error, after time.Duration, serves bool) bool {
	if after > backoffMax {
		*r = restarts{}
	}
	if !resumes(err) || serves && r.resumed >= resumesMost {
		return false
	}
	r.resumed++
	return true
}

// resumes reports whether a watch that ended with err can go on where it was: its
// member has no leader, the client is another after a change of the credentials.
func resumes(err error) bool {
	return !errors.Is(err, errResync) && !errors.Is(err, errFromCache) &&
		!errors.Is(err, rpctypes.ErrCompacted) && !errors.Is(err, rpctypes.ErrFutureRev)
}

// resume waits for d and looks whether etcd is as the watch left it. nil: it is, or
// does not answer, and the watch may go on. Else it returns ErrFenced, errResync or
// ctx's error.
func (m *Manager) resume(ctx context.Context, d time.Duration) error {
	if err := m.idle(ctx, d); err != nil {
		return err
	}
	m.behind = false // there was no watch that could be
	return m.check(ctx)
}
