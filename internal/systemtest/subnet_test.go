//go:build systemtest

package systemtest

import (
	"fmt"
	"net/netip"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"twill/subnet"
)

// loseSubnet gives the subnet of a machine to a stranger: twill ends with exit code 3, and the new start takes another
// subnet. Docker goes on undisturbed with its old one until it is restarted, also when twill is restarted first.
func (s *system) loseSubnet() {
	m := s.machines[1]
	before, undisturbed := s.subnet(m), s.identity(m)
	s.giveAway(before)
	s.waitFor("a new subnet", func() error {
		output, err := m.Sh(s.ctx, "systemctl is-active twill && cat /run/twill/subnet.env")
		if err == nil && strings.Contains(output, "FLANNEL_SUBNET="+before.Addr().Next().String()) {
			err = fmt.Errorf("it is still %s", before)
		}
		return err
	})
	if entries := s.sh(m, "journalctl --boot --unit=twill"); !strings.Contains(entries, "status=3") {
		s.t.Errorf("%s: no exit code 3 in the journal:\n%s", m.Name, entries)
	}
	after := s.subnet(m)
	s.sh(m, "systemctl restart twill")
	if again := s.subnet(m); again != after {
		s.t.Errorf("%s: subnet %s after a restart, want %s", m.Name, again, after)
	}
	if now := s.identity(m); now != undisturbed {
		s.t.Errorf("%s: Docker and its container were %s, and are %s", m.Name, undisturbed, now)
	}
	s.sh(m, "systemctl restart docker")
	s.waitWell(m)
	s.connect()
}

// giveAway writes a lease as another host that believes the subnet is its own would.
func (s *system) giveAway(p netip.Prefix) {
	s.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + s.machines[0].Addr.String() + ":2379"}})
	s.must(err)
	defer client.Close()
	stranger := subnet.Value{PublicIP: netip.MustParseAddr("198.18.0.99"), BackendType: subnet.BackendUDP, Proto: 1, Node: "stranger", NodeID: "stranger", Port: 8285}
	key := "/coreos.com/network/subnets/" + strings.ReplaceAll(p.String(), "/", "-")
	_, err = client.Put(s.ctx, key, string(stranger.Marshal()))
	s.must(err)
}
