//go:build systemtest

package systemtest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

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
