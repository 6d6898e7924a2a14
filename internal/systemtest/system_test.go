//go:build systemtest

package systemtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"twill/internal/api"
	"twill/internal/lab"
)

const (
	oldVersion, newVersion = "0.0.1", "0.0.2"

	network = "10.5.0.0/16"
	// mtu is the underlay's less an IPv4 and a UDP header.
	mtu = 1500 - 20 - 8
	// published is the port of each machine that leads to its container.
	published = 8080

	// patience is how long a state may take; a test that goes well waits for none that long.
	patience = 60 * time.Second
	// limit bounds the whole test.
	limit = 10 * time.Minute
)

// system is two machines; etcd runs on the first.
type system struct {
	t        *testing.T
	ctx      context.Context
	machines [2]*Machine
	outside  *http.Server // on Gateway, says from which address it is asked
}

// The steps build on each other; each leaves the machines running, with twill and Docker well.
func TestSystem(t *testing.T) {
	s := newSystem(t)
	for _, step := range []struct {
		name string
		run  func(*system)
	}{
		{"machines with etcd and Docker boot", (*system).boot},
		{"the package installs", (*system).install},
		{"the operator sets etcd's address and starts twill", (*system).configure},
		{"a reboot brings all up in order", (*system).rebootInOrder},
		{"containers reach each other and the world", (*system).connect},
		{"a restart loses no packet", (*system).restart},
		{"a package upgrade loses no packet", (*system).upgrade},
		{"a killed daemon loses one burst", (*system).killDaemon},
		{"a machine reboots while etcd is away", (*system).rebootWithoutEtcd},
		{"Docker waits while there is no subnet", (*system).bootWithoutSubnet},
		{"a host whose subnet is another's takes a new one", (*system).loseSubnet},
		{"broken settings fail the unit and say why", (*system).breakSettings},
		{"the package is removed and purged", (*system).remove},
	} {
		begin := time.Now()
		if !t.Run(step.name, func(t *testing.T) {
			s.t = t
			step.run(s)
		}) {
			s.t = t
			s.explain()
			t.FailNow()
		}
		t.Logf("%-55s %5.1f s", step.name, time.Since(begin).Seconds())
	}
}

func newSystem(t *testing.T) *system {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	s := &system{t: t, ctx: ctx}
	world, err := NewWorld(prepared)
	s.must(err)
	t.Cleanup(world.Close)
	for i := range s.machines {
		s.machines[i], err = world.Add(i + 1)
		s.must(err)
	}
	listener, err := net.Listen("tcp", netip.AddrPortFrom(Gateway, 80).String())
	s.must(err)
	s.outside = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })}
	go s.outside.Serve(listener)
	t.Cleanup(func() { s.outside.Close() })
	return s
}

func (s *system) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// sh runs a line of shell on a machine, which must succeed, and returns what it printed.
func (s *system) sh(m *Machine, format string, args ...any) string {
	s.t.Helper()
	output, err := m.Sh(s.ctx, fmt.Sprintf(format, args...))
	s.must(err)
	return strings.TrimSpace(output)
}

func (s *system) waitFor(what string, reached func() error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	s.must(lab.WaitFor(ctx, what, reached))
}

// each does the same on all machines at a time.
func (s *system) each(do func(m *Machine, ctx context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 2*patience)
	defer cancel()
	errs := make(chan error, len(s.machines))
	for _, m := range s.machines {
		go func() { errs <- do(m, ctx) }()
	}
	for range s.machines {
		s.must(<-errs)
	}
}

// explain shows what a machine knows about a failure.
func (s *system) explain() {
	for _, m := range s.machines {
		output, err := m.Sh(s.ctx, "systemctl --no-pager --failed; systemctl --no-pager status twill docker; journalctl --no-pager --boot --lines=60 --unit=twill --unit=docker --unit=etcd; ip -brief address; ip route; iptables-save")
		s.t.Logf("%s:\n%s%v", m.Name, output, err)
	}
}

// status is what the machine's daemon tells.
func (s *system) status(m *Machine) (status api.Status) {
	s.t.Helper()
	s.must(json.Unmarshal([]byte(s.sh(m, "twill status --json || [ $? -eq 1 ]")), &status))
	return status
}

func (s *system) subnet(m *Machine) netip.Prefix {
	s.t.Helper()
	return s.status(m).Subnet
}

// waitWell waits until twill knows its peer and the container runs.
func (s *system) waitWell(m *Machine) {
	s.t.Helper()
	s.waitFor(m.Name+" to be well", func() error {
		output, err := m.Sh(s.ctx, "systemctl is-active twill docker && twill peers && docker exec web echo")
		if err == nil && !strings.Contains(output, other(s.machines, m).Addr.String()) {
			err = fmt.Errorf("its peers are\n%s", output)
		}
		return err
	})
}

func other(machines [2]*Machine, m *Machine) *Machine {
	if m == machines[0] {
		return machines[1]
	}
	return machines[0]
}
