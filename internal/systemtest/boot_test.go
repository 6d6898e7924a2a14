//go:build systemtest

package systemtest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"
)

// boot installs etcd's configuration and the image for containers, too.
func (s *system) boot() {
	etcd := s.machines[0]
	url := "http://" + etcd.Addr.String() + ":2379"
	s.must(os.WriteFile(etcd.Path("etc/default/etcd"), []byte("ETCD_LISTEN_CLIENT_URLS="+url+"\nETCD_ADVERTISE_CLIENT_URLS="+url+"\n"), 0o644))
	s.must(os.Symlink("/dev/null", s.machines[1].Path("etc/systemd/system/etcd.service")))
	s.each((*Machine).Boot)
	s.each(func(m *Machine, ctx context.Context) error {
		_, err := m.Sh(ctx, `set -e
			mkdir -p /tmp/image/bin /tmp/image/www/cgi-bin
			cp /bin/busybox /tmp/image/bin/
			for applet in sh httpd timeout wget ping hostname echo cat sleep; do ln -s busybox /tmp/image/bin/$applet; done
			printf '#!/bin/sh\necho "Content-type: text/plain"\necho\necho "$(hostname) $REMOTE_ADDR"\n' >/tmp/image/www/cgi-bin/who
			chmod +x /tmp/image/www/cgi-bin/who
			tar -C /tmp/image -c . | docker import - web >/dev/null
			rm -r /tmp/image`)
		return err
	})
}

// install installs the package; it waits for its settings, and disturbs nothing.
func (s *system) install() {
	s.each(func(m *Machine, ctx context.Context) error {
		_, err := m.Sh(ctx, "dpkg --install /packages/twill_"+oldVersion+"*.deb")
		return err
	})
	for _, m := range s.machines {
		if state, _ := m.Property(s.ctx, "twill", "ActiveState"); state != "inactive" {
			s.t.Errorf("%s: twill is %s after the installation, want it inactive", m.Name, state)
		}
		if state, _ := m.Property(s.ctx, "docker", "ActiveState"); state != "active" {
			s.t.Errorf("%s: Docker is %s after the installation, want it active", m.Name, state)
		}
	}
}

func (s *system) configure() {
	s.each(func(m *Machine, ctx context.Context) error {
		_, err := m.Sh(ctx, fmt.Sprintf(`set -e
			printf 'TWILL_ETCD_ENDPOINTS=http://%s:2379\nTWILL_NETWORK=%s\n' >>/etc/default/twill
			systemctl start twill
			systemctl restart docker
			docker run --detach --name=web --restart=always --publish=%d:80 web httpd -f -p 80 -h /www`,
			s.machines[0].Addr, network, published))
		return err
	})
}

// rebootInOrder proves from the journal that each service started when the one that it needs was ready.
func (s *system) rebootInOrder() {
	before := []netip.Prefix{s.subnet(s.machines[0]), s.subnet(s.machines[1])}
	s.each((*Machine).Reboot)
	for i, m := range s.machines {
		s.waitWell(m)
		s.checkJournal(m)
		if after := s.subnet(m); after != before[i] {
			s.t.Errorf("%s: subnet %s after the reboot, want %s", m.Name, after, before[i])
		}
		at := func(unit, entry string) time.Duration {
			when, err := m.JournalTime(s.ctx, unit, entry)
			s.must(err)
			return when
		}
		order := []time.Duration{
			at("twill.service", unitStarting), at("twill.service", unitStarted),
			at("docker.service", unitStarting), at("docker.service", unitStarted),
		}
		if i == 0 {
			order = append([]time.Duration{at("etcd.service", unitStarted)}, order...)
		}
		s.t.Logf("%s: started at %v", m.Name, order)
		for i := range order[1:] {
			if order[i] > order[i+1] {
				s.t.Errorf("%s: [etcd started,] twill starting, started, docker starting, started: at %v", m.Name, order)
			}
		}
	}
}

// checkJournal checks that the journal of a boot that went well has nothing to look after, and each time once.
func (s *system) checkJournal(m *Machine) {
	s.t.Helper()
	if entries := s.sh(m, "journalctl --quiet --boot --output=cat --priority=notice --unit=twill"); entries != "" {
		s.t.Errorf("%s: the journal has of priority notice or higher:\n%s", m.Name, entries)
	}
	entries := s.sh(m, "journalctl --quiet --boot --output=cat --unit=twill")
	if !strings.Contains(entries, "\nholds lease subnet=") || strings.Contains(entries, "time=") || strings.Contains(entries, "settings do not count") {
		s.t.Errorf("%s: the journal has:\n%s", m.Name, entries)
	}
}

// rebootWithoutEtcd boots a machine that has nothing but its cache.
func (s *system) rebootWithoutEtcd() {
	m := s.machines[1]
	before := s.subnet(m)
	s.sh(s.machines[0], "systemctl stop etcd")
	s.must(m.Reboot(s.ctx))
	s.waitWell(m)
	if after := s.subnet(m); after != before {
		s.t.Errorf("%s: subnet %s without etcd, want %s", m.Name, after, before)
	}
	s.connect()
	s.sh(s.machines[0], "systemctl start etcd")
	s.waitFor("twill to find etcd again", func() error {
		_, err := m.Sh(s.ctx, "twill status")
		return err // exit code 1 while it is degraded
	})
}

// bootWithoutSubnet boots a machine that cannot know its subnet: Docker must not start on another one.
func (s *system) bootWithoutSubnet() {
	m := s.machines[1]
	before := s.subnet(m)
	s.sh(s.machines[0], "systemctl stop etcd")
	s.sh(m, "systemctl stop twill; rm /var/lib/twill/cache.json")
	s.must(m.PowerOff(s.ctx))
	s.must(m.PowerOn())
	s.waitFor("Docker to wait for twill, and twill for etcd", func() error {
		status, err := m.Run(s.ctx, "systemctl", "show", "--value", "--property=ActiveState,StatusText", "twill")
		if err == nil && (!strings.Contains(status, "activating") || !strings.Contains(status, "etcd")) {
			err = fmt.Errorf("twill's state is %q", status)
		}
		if err != nil {
			return err
		}
		jobs, err := m.Run(s.ctx, "systemctl", "list-jobs", "--no-legend")
		if err == nil && !strings.Contains(jobs, "docker.service") {
			err = fmt.Errorf("no job of Docker waits, only:\n%s", jobs)
		}
		return err
	})
	s.sh(s.machines[0], "systemctl start etcd")
	s.must(m.Booted(s.ctx))
	s.waitWell(m)
	if after := s.subnet(m); after != before {
		s.t.Errorf("%s: subnet %s, want %s", m.Name, after, before)
	}
	s.connect()
}

// breakSettings leaves a unit that does not try again and again, and a status that tells the reason.
func (s *system) breakSettings() {
	m := s.machines[1]
	s.sh(m, "cp -a /etc/default/twill /root/twill.env; echo TWILL_QUEUES=many >>/etc/default/twill")
	if _, err := m.Sh(s.ctx, "systemctl restart twill"); err == nil {
		s.t.Error("a restart with TWILL_QUEUES=many succeeded")
	}
	if state, _ := m.Property(s.ctx, "twill", "ActiveState"); state != "failed" {
		s.t.Errorf("the unit is %s, want it failed", state)
	}
	status, _ := m.Sh(s.ctx, "systemctl status --no-pager twill") // exit code 3: it does not run
	if !strings.Contains(status, "queues") || !strings.Contains(status, "many") {
		s.t.Errorf("the status does not name the setting and its value:\n%s", status)
	}
	s.sh(m, "cp -a /root/twill.env /etc/default/twill; echo TWILL_MTUU=1400 >>/etc/default/twill; systemctl restart twill")
	if warnings := s.sh(m, "journalctl --quiet --boot --output=cat --priority=warning --unit=twill"); !strings.Contains(warnings, "TWILL_MTUU") {
		s.t.Errorf("a misspelt setting is not warned of, but: %s", warnings)
	}
	s.sh(m, "mv /root/twill.env /etc/default/twill; systemctl restart twill")
	s.waitWell(m)
	s.connect()
}

// remove removes and purges the package, and looks for what is left of it.
func (s *system) remove() {
	m := s.machines[1]
	s.sh(m, "dpkg --remove twill")
	if left := s.sh(m, "ip -brief link; ip route; iptables-save"); strings.Contains(strings.ToLower(left), "twill") {
		s.t.Errorf("after the removal there are:\n%s", left)
	}
	if left := s.sh(m, "cat /etc/default/twill"); !strings.Contains(left, "TWILL_ETCD_ENDPOINTS=") {
		s.t.Error("the removal took the settings")
	}
	s.sh(m, "systemctl restart docker && docker exec web echo")
	s.sh(m, "dpkg --purge twill")
	left := s.sh(m, `find / -xdev \( -path /proc -o -path /sys -o -path /packages -o -path /var/lib/docker -o -path /var/log \) -prune -o \( -iname '*twill*' -o -user twill \) -print
		find /run -iname '*twill*'; systemctl list-units --all --no-legend '*twill*'; systemctl list-unit-files --no-legend '*twill*' || true`)
	if left != "" {
		s.t.Errorf("after the purge there are:\n%s", left)
	}
}
