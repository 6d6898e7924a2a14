package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"

	"twill/internal/lab"
)

// roleEnv makes this program act as one of roles. Parent and child talk in JSON,
// a request and an answer at a time, over the child's stdin and stdout; the child
// ends with its stdin.
const roleEnv = "TWILL_SCALE_ROLE"

// profileEnv names a directory: each child writes its CPU profile into it.
const profileEnv = "TWILL_SCALE_PROFILES"

var roles = map[string]func(context.Context, *parent) error{
	"etcd":  runStore,
	"node":  runNode,
	"range": runRange,
	"fleet": runFleet,
}

// parent is what a child hears and answers.
type parent struct {
	in  *json.Decoder
	out *json.Encoder
}

func (p *parent) read(request any) error  { return p.in.Decode(request) }
func (p *parent) answer(answer any) error { return p.out.Encode(reply{Answer: answer}) }

// reply is an answer, or why there is none.
type reply struct {
	Answer any    `json:",omitempty"`
	Err    string `json:",omitempty"`
}

func childRole() (string, bool) { return os.LookupEnv(roleEnv) }

// runChild acts as role and returns the exit code.
func runChild(role string) int {
	p := &parent{in: json.NewDecoder(os.Stdin), out: json.NewEncoder(os.Stdout)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop, err := profile(role)
	if err == nil {
		err = roles[role](ctx, p)
		stop()
	}
	if err == nil || errors.Is(err, io.EOF) {
		return 0
	}
	p.out.Encode(reply{Err: fmt.Sprintf("%s: %v", role, err)})
	return 1
}

// profile writes a CPU profile from here to stop, if one is wanted.
func profile(role string) (stop func(), err error) {
	dir := os.Getenv(profileEnv)
	if dir == "" {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%d.pprof", role, os.Getpid())))
	if err != nil {
		return nil, fmt.Errorf("CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("CPU profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

// child is a process that acts as a role.
type child struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	send *json.Encoder
	read *json.Decoder
}

// start starts a child; ctx kills it.
func start(ctx context.Context, role string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{role: role, cmd: exec.CommandContext(ctx, program)}
	c.cmd.Env = append(os.Environ(), roleEnv+"="+role)
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.send, c.read = json.NewEncoder(c.in), json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return c, nil
}

// ask sends a request and waits for the answer, which may be nil.
func (c *child) ask(request, answer any) error {
	if err := c.send.Encode(request); err != nil {
		return fmt.Errorf("ask %s: %w", c.role, err)
	}
	r := reply{Answer: answer}
	if err := c.read.Decode(&r); err != nil {
		return fmt.Errorf("answer of %s: %w", c.role, err)
	}
	if r.Err != "" {
		return errors.New(r.Err)
	}
	return nil
}

func (c *child) usage() (lab.Usage, error) { return lab.UsageOf(c.cmd.Process.Pid) }

// stop ends the child and waits for its end.
func (c *child) stop() {
	c.in.Close()
	_ = c.cmd.Wait() // it has answered all that was asked
}
