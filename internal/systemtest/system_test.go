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
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

	// loadRate is the load of each direction during restarts, in packets a second.
	loadRate = 1000
	// killedBurst is how many packets a killed daemon may have read but not sent, each way.
	killedBurst = 64
)

// preparedEnv hands what TestMain prepared to the process inside the namespaces.
const preparedEnv = "TWILL_SYSTEM_TEST"

// prepared is what the machines are made of.
var prepared Prepared

func TestMain(m *testing.M) {
	os.Exit(enterAndRun(m))
}

func enterAndRun(m *testing.M) int {
	if os.Getenv(preparedEnv) == "" {
		dir, err := os.MkdirTemp("", "twill-system-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, "FAIL:", err)
			return 1
		}
		defer os.RemoveAll(dir)
		defer RemoveCgroups()
		if err := prepareFor(dir); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL: prepare:", err)
			return 1
		}
	}
	entered, code, err := Enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	if !entered {
		return code
	}
	if err := json.Unmarshal([]byte(os.Getenv(preparedEnv)), &prepared); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return m.Run()
}

// prepareFor prepares before the namespaces are entered, in which there is no way to Debian.
func prepareFor(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := RemoveCgroups(); err != nil {
		return err
	}
	p, err := Prepare(ctx, os.Stdout, filepath.Join("..", ".."), dir, oldVersion, newVersion)
	if err != nil {
		return err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.Setenv(preparedEnv, string(text))
}

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

// status is what the machine's daemon tells.
func (s *system) status(m *Machine) (status api.Status) {
	s.t.Helper()
	s.must(json.Unmarshal([]byte(s.sh(m, "twill status --json")), &status))
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

// containerAddr is the address of the machine's container.
func (s *system) containerAddr(m *Machine) netip.Addr {
	s.t.Helper()
	addr, err := netip.ParseAddr(s.sh(m, "docker inspect --format='{{.NetworkSettings.IPAddress}}' web"))
	s.must(err)
	return addr
}

// connect checks what containers are given and everything that they can reach, and be reached from.
func (s *system) connect() {
	for _, m := range s.machines {
		peer := other(s.machines, m)
		own, far := s.containerAddr(m), s.containerAddr(peer)
		if subnet := s.subnet(m); !subnet.Contains(own) {
			s.t.Errorf("%s: the container has %s, want an address of %s", m.Name, own, subnet)
		}
		if got := s.sh(m, "docker exec web cat /sys/class/net/eth0/mtu"); got != strconv.Itoa(mtu) {
			s.t.Errorf("%s: the container's MTU is %s, want %d", m.Name, got, mtu)
		}
		want := fmt.Sprintf("--bip=%s/%d --ip-masq=false --mtu=%d", s.subnet(m).Addr().Next(), s.subnet(m).Bits(), mtu)
		if got := s.sh(m, "tr '\\0' ' ' <\"/proc/$(systemctl show --value --property=MainPID docker)/cmdline\""); !strings.HasSuffix(got, want) || strings.Count(got, "--bip") != 1 {
			s.t.Errorf("%s: Docker runs as %q, want %s in the end, once", m.Name, got, want)
		}
		s.sh(m, "docker exec web ping -c 3 -w 10 %s", far)
		s.asks(m, fmt.Sprintf("http://%s/cgi-bin/who", far), s.hostname(peer), own)
		if got, _, _ := net.SplitHostPort(s.sh(m, "docker exec web timeout 10 wget -q -O - http://%s/", Gateway)); got != m.Addr.String() {
			s.t.Errorf("%s: the world sees the container as %s, want it masqueraded as %s", m.Name, got, m.Addr)
		}
		who := s.get("http://" + netip.AddrPortFrom(m.Addr, published).String() + "/cgi-bin/who")
		s.checkWho(m.Name+"'s published port", who, s.hostname(m), Gateway)
	}
}

func (s *system) hostname(m *Machine) string {
	s.t.Helper()
	return s.sh(m, "docker exec web hostname")
}

// asks lets a machine's container ask another who it is and whom it is asked by.
func (s *system) asks(m *Machine, url, name string, from netip.Addr) {
	s.t.Helper()
	s.checkWho(m.Name+"'s container asks "+url, s.sh(m, "docker exec web timeout 10 wget -q -O - %s", url), name, from)
}

// checkWho checks an answer of cgi-bin/who: the name of the container, and the address that it was asked from.
func (s *system) checkWho(what, answer, name string, from netip.Addr) {
	s.t.Helper()
	gotName, text, _ := strings.Cut(answer, " ")
	addr, err := netip.ParseAddr(strings.Trim(text, "[]")) // [::ffff:192.0.2.1]
	if err != nil || gotName != name || addr.Unmap() != from {
		s.t.Errorf("%s: the answer is %q, want %s, which was asked from %s", what, answer, name, from)
	}
}

// get fetches a URL from outside of all machines.
func (s *system) get(url string) string {
	s.t.Helper()
	client := http.Client{Timeout: patience}
	response, err := client.Get(url)
	s.must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	s.must(err)
	return strings.TrimSpace(string(body))
}

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
	s.sh(m, "mv /root/twill.env /etc/default/twill; systemctl start twill")
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
