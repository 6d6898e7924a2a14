//go:build systemtest

package systemtest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"twill/internal/lab"
)

const (
	// loadRate is the load of each direction during restarts, in packets a second.
	loadRate = 1000
	// killedBurst is how many packets a killed daemon may have read but not sent, each way.
	killedBurst = 64
)

// underLoad lets numbered packets go both ways between the containers while do runs, and some time after it, and returns what
// arrived. Neither Docker nor a container may be restarted.
func (s *system) underLoad(do func()) [2]lab.StreamReport {
	s.t.Helper()
	var ends [2]*lab.Namespace
	var before [2]string
	for i, m := range s.machines {
		s.waitWell(m)
		before[i] = s.identity(m)
		pid, err := strconv.Atoi(s.sh(m, "docker inspect --format='{{.State.Pid}}' web"))
		s.must(err)
		ends[i], err = m.Namespace(m.Name+"'s container", pid, s.containerAddr(m))
		s.must(err)
		defer ends[i].Close()
	}
	var streams [2]*lab.Stream
	for i := range streams {
		stream, err := lab.StartStream(s.ctx, ends[i], ends[1-i], lab.StreamOptions{Rate: loadRate})
		s.must(err)
		streams[i] = stream
	}
	s.waitReceived(streams, loadRate/2)
	do()
	s.waitReceived(streams, max(streams[0].Report().Received, streams[1].Report().Received)+loadRate/2)
	reports := [2]lab.StreamReport{streams[0].Stop(), streams[1].Stop()}
	for i, m := range s.machines {
		if after := s.identity(m); after != before[i] {
			s.t.Errorf("%s: Docker and its container were %s, and are %s", m.Name, before[i], after)
		}
	}
	for i, r := range reports {
		s.t.Logf("from %s: %d of %d packets lost, longest gap %v", s.machines[i].Name, r.Lost(), r.Sent, r.LongestGap.Round(time.Millisecond))
		if r.Duplicated != 0 || r.SendError != nil {
			s.t.Errorf("from %s: %d packets duplicated, %v", s.machines[i].Name, r.Duplicated, r.SendError)
		}
	}
	return reports
}

// identity changes when Docker or the container is restarted.
func (s *system) identity(m *Machine) string {
	s.t.Helper()
	return s.sh(m, "systemctl show --value --property=InvocationID docker; docker inspect --format='{{.Id}} {{.State.StartedAt}}' web")
}

func (s *system) waitReceived(streams [2]*lab.Stream, n int) {
	s.t.Helper()
	s.waitFor(fmt.Sprintf("%d packets each way", n), func() error {
		for i, stream := range streams {
			if r := stream.Report(); r.Received < n {
				return fmt.Errorf("from %s: %d of %d have arrived", s.machines[i].Name, r.Received, r.Sent)
			}
		}
		return nil
	})
}

func (s *system) losesNothing(reports [2]lab.StreamReport) {
	s.t.Helper()
	for i, r := range reports {
		if r.Lost() != 0 {
			s.t.Errorf("from %s: %d of %d packets lost, want none", s.machines[i].Name, r.Lost(), r.Sent)
		}
	}
}

func (s *system) restart() {
	for _, m := range s.machines {
		s.losesNothing(s.underLoad(func() { s.sh(m, "systemctl restart twill") }))
	}
}

func (s *system) upgrade() {
	for _, m := range s.machines {
		s.losesNothing(s.underLoad(func() { s.sh(m, "dpkg --install /packages/twill_%s*.deb", newVersion) }))
		if got := s.status(m).Version; got != newVersion {
			s.t.Errorf("%s: after the upgrade to %s the daemon is version %s", m.Name, newVersion, got)
		}
	}
}

func (s *system) killDaemon() {
	m := s.machines[1]
	reports := s.underLoad(func() {
		before := s.sh(m, "systemctl show --value --property=MainPID twill")
		s.sh(m, "kill -KILL %s", before)
		s.waitFor("systemd to start it again", func() error {
			now, err := m.Sh(s.ctx, "systemctl is-active twill && systemctl show --value --property=MainPID twill")
			if err == nil && strings.Contains(now, before) {
				err = fmt.Errorf("the process is still %s", before)
			}
			return err
		})
	})
	for i, r := range reports {
		if r.Lost() > killedBurst {
			s.t.Errorf("from %s: %d of %d packets lost, want at most %d", s.machines[i].Name, r.Lost(), r.Sent, killedBurst)
		}
	}
}
