// Package demo is `twill demo`: it shows on one machine, in less than a minute,
// what twill does. It builds hosts (package lab), runs the real daemon on each,
// and tells what it sees step by step, with the output of the real commands.
//
// The flow: [Run] goes through the steps of steps.go in their order; each does
// one thing, checks it, and says what it saw. The first that fails ends the
// story with the reason and the daemons' last lines. screen.go prints, draw.go
// makes the pictures.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"twill/internal/lab"
	"twill/routes"
)

const (
	// MinHosts and MaxHosts bound the hosts: fewer have no one to talk to, and
	// the ping matrix of more does not fit a screen.
	MinHosts = 2
	MaxHosts = 16

	// timeLimit ends a story that hangs; a good one takes some ten seconds.
	timeLimit = 60 * time.Second

	// logLines is how much of each daemon's log goes into a failure.
	logLines = 5
)

// errSlow is the cause of a story's end at timeLimit.
var errSlow = fmt.Errorf("the demo took longer than %s", timeLimit)

// Options says how to tell the story.
type Options struct {
	Hosts    int       // MinHosts to MaxHosts
	Keep     bool      // leave the hosts running at the end until ctx is cancelled
	Out      io.Writer // everything is printed here
	Terminal bool      // Out is a terminal: progress line, colours unless NO_COLOR is set
}

// Run tells the story and removes what it made. The program must have been
// through [lab.Enter]. The error is the reason why a step failed; it wraps
// [context.Canceled] when ctx was cancelled before the end.
func Run(ctx context.Context, o Options) error {
	if o.Hosts < MinHosts || o.Hosts > MaxHosts {
		return fmt.Errorf("demo with %d hosts: want %d to %d", o.Hosts, MinHosts, MaxHosts)
	}
	if err := routes.CheckTUN(); err != nil {
		return fmt.Errorf("the demo needs TUN devices: %w", err)
	}
	s := &story{
		screen: newScreen(o.Out, o.Terminal, o.Terminal && os.Getenv("NO_COLOR") == ""),
		hosts:  o.Hosts,
		keep:   o.Keep,
		begin:  time.Now(),
	}
	defer s.close()

	limited, cancel := context.WithTimeoutCause(ctx, timeLimit, errSlow)
	defer cancel()
	limited, s.abort = context.WithCancelCause(limited)
	defer s.abort(nil)
	if err := s.tell(limited); err != nil {
		return err
	}
	if o.Keep {
		s.screen.keepText(s.lab)
		<-ctx.Done()
	}
	return nil
}

// story is the state that the steps hand on.
type story struct {
	screen *screen
	hosts  int
	keep   bool
	begin  time.Time

	abort context.CancelCauseFunc // ends the step that goes on

	lab     *lab.Lab
	daemons []*daemon // by host
	pods    []*lab.Namespace
	stream  *lab.Stream // runs while etcd is away

	pings       int
	rate        float64 // the better direction's, bits a second
	outagePacks int     // sent while etcd was away
}

// step is one part of the story.
type step struct {
	doing string // while it goes on
	// do does it and returns what was done, in a line, and what there is to see.
	do func(ctx context.Context) (did, details string, err error)
}

// tell goes through the steps.
func (s *story) tell(ctx context.Context) error {
	s.screen.title(fmt.Sprintf("twill demo: %d hosts on this machine, each a network namespace with its own daemon", s.hosts))
	for _, st := range s.steps() {
		begin := time.Now()
		s.screen.doing(st.doing)
		did, details, err := st.do(ctx)
		if err != nil {
			s.screen.failed(st.doing)
			return s.reason(ctx, st, err)
		}
		s.screen.did(did, details, time.Since(begin))
	}
	s.screen.summary(s.summary())
	return nil
}

// reason is why a step failed, with what the daemons said last; an interruption
// needs no more words.
func (s *story) reason(ctx context.Context, st step, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.Canceled):
		return fmt.Errorf("interrupted while %s: %w", st.doing, cause)
	case cause != nil && !errors.Is(cause, errSlow):
		err = cause // a daemon ended; err is what that led to
	}
	var logs strings.Builder
	for _, d := range s.daemons {
		if strings.Contains(err.Error(), d.Tail(1)) {
			continue // a daemon that did not start has said why
		}
		fmt.Fprintf(&logs, "\n%s said last:\n%s", d, indent(d.Tail(logLines)))
	}
	return fmt.Errorf("%s: %w%s", st.doing, err, logs.String())
}

// summary is the last line of a good story.
func (s *story) summary() string {
	return fmt.Sprintf("It works: %d pings answered, %s by TCP, %d packets sent while etcd was away and none lost, in %.1f s.",
		s.pings, bitRate(s.rate), s.outagePacks, time.Since(s.begin).Seconds())
}

// close removes everything. Should that fail, the end of the process does it.
func (s *story) close() {
	s.screen.clear()
	if s.stream != nil {
		s.stream.Stop()
	}
	if s.lab != nil {
		s.lab.Close()
	}
}
