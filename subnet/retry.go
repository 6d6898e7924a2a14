package subnet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// rpcTimeout bounds every single RPC; without a deadline the client waits
	// for an answer for ever.
	rpcTimeout = 4 * time.Second
	backoffMin = 250 * time.Millisecond
	backoffMax = 15 * time.Second
)

// backoff is the pause before the next try: it doubles up to backoffMax, half
// of it random so that a fleet does not come back in step.
type backoff struct{ next time.Duration }

func (b *backoff) pause() time.Duration {
	d := max(b.next, backoffMin)
	b.next = min(2*d, backoffMax)
	return d/2 + rand.N(d/2+1)
}

// sleep returns ctx's error if ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// retry calls f until it succeeds, etcd refuses, or ctx ends.
func (r *Registry) retry(ctx context.Context, task string, f func() error) error {
	o := r.outage(task)
	for {
		err := f()
		if err == nil {
			o.over()
			return nil
		}
		if err := o.endure(ctx, err); err != nil {
			return err
		}
	}
}

// outage is a time in which etcd does not do what it is asked. Its beginning is
// said once, and so is its end.
type outage struct {
	task      string
	endpoints string
	log       *slog.Logger
	since     time.Time // the zero Time: none so far
	last      error
	wait      backoff
	waiting   func(cause string)
}

func (r *Registry) outage(task string) outage {
	return outage{task: task, endpoints: strings.Join(r.config.Endpoints, ","), log: r.log, waiting: r.Waiting}
}

// endure waits before the next try. It returns ctx's error, or err itself where
// no further try would change it.
func (o *outage) endure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return o.ended(ctx.Err(), err)
	}
	o.last = err
	if !transient(err) {
		return &refusal{task: o.task, endpoints: o.endpoints, err: err}
	}
	if o.since.IsZero() {
		o.since = time.Now()
		o.log.Warn(o.begins(err), "task", o.task, "etcd-endpoints", o.endpoints, "err", explain(err))
	}
	if o.waiting != nil {
		o.waiting(fmt.Sprintf("waiting for etcd at %s: %s", o.endpoints, explain(err)))
	}
	if ctxErr := sleep(ctx, o.wait.pause()); ctxErr != nil {
		return o.ended(ctxErr, err)
	}
	return nil
}

func (o *outage) begins(err error) string {
	if refuses(err) {
		return "etcd refuses; trying on"
	}
	return "etcd does not answer; trying on"
}

// ended is the error of an outage that outlives ctx: with the reason for it where
// ctx had a deadline.
func (o *outage) ended(ctxErr, err error) error {
	if !errors.Is(ctxErr, context.DeadlineExceeded) {
		return ctxErr
	}
	return &refusal{task: o.task, endpoints: o.endpoints, err: cmp.Or(o.last, err), deadline: ctxErr}
}

// refusal is etcd's no, in words that an operator can act on.
type refusal struct {
	task, endpoints string
	err             error
	deadline        error // that of the context, if that ended it
}

func (r *refusal) Error() string   { return r.task + " at " + r.endpoints + ": " + explain(r.err) }
func (r *refusal) Unwrap() []error { return []error{r.err, r.deadline} }

func (o *outage) over() {
	if !o.since.IsZero() {
		o.log.Info("etcd answers again", "after", time.Since(o.since).Round(time.Second))
	}
}

// badTLS begins gRPC's text about a handshake that crypto/tls ended, mostly over
// a certificate. One that the network ended goes on with another cause.
var badTLS = []string{
	"authentication handshake failed: tls: ",
	"authentication handshake failed: remote error: tls: ",
}

// transient reports whether err may go away by itself: no connection, no
// leader, no time, no space. All else is etcd's (or TLS's) considered no.
func transient(err error) bool {
	switch codeOf(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.ResourceExhausted:
		return true
	}
	return false
}

// refused reports whether etcd itself has said no to a write: it was not made. All
// other errors, that of an ended context too, leave it open.
func refused(err error) bool {
	var e rpctypes.EtcdError
	return errors.As(err, &e) && e.Code() != codes.Unavailable && e.Code() != codes.DeadlineExceeded
}

// refuses reports whether err is a no of an etcd that is there: in want of space,
// of a right, a login or a certificate that it trusts, or that we trust.
func refuses(err error) bool {
	switch codeOf(err) {
	case codes.ResourceExhausted, codes.PermissionDenied, codes.Unauthenticated, codes.InvalidArgument, codes.FailedPrecondition:
		return true
	}
	return false
}

// codeOf is err's gRPC code, in whatever err is wrapped.
func codeOf(err error) codes.Code {
	for _, s := range badTLS {
		if strings.Contains(err.Error(), s) {
			return codes.Unauthenticated // which gRPC calls Unavailable
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded
	}
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	return status.Code(err)
}

// explain turns gRPC's nested descriptions into the one cause that an operator
// can act on.
func explain(err error) string {
	if errors.Is(err, rpctypes.ErrUserEmpty) {
		return "etcd wants a login: give etcd-username and etcd-password"
	}
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return "etcd is out of space (NOSPACE alarm): it renews leases, writes wait; compact and defragment it, then `etcdctl alarm disarm`"
	}
	s := err.Error()
	for _, marker := range []string{"transport: Error while dialing: ", "transport: ", "connection error: desc = \""} {
		if _, cause, found := strings.Cut(s, marker); found {
			return strings.TrimSuffix(cause, "\"")
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer in %v", rpcTimeout)
	}
	return s
}
