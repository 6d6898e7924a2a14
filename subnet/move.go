package subnet

import (
	"net/netip"
	"time"
)

// MoveTo says that peers reach this host at ip from now on. Run writes it into
// our lease, by a compare, as soon as etcd answers. It may be called from any
// goroutine and does not wait; of several calls the last counts.
func (m *Manager) MoveTo(ip netip.Addr) {
	for {
		select {
		case m.moves <- ip:
			return
		case <-m.moves: // an earlier one that Run has not seen
		}
	}
}

// move takes the new address; the check that is due writes it.
func (m *Manager) move(ip netip.Addr) {
	if ip == m.opt.Identity.PublicIP {
		return
	}
	if problem := publicIPProblem(ip, m.config.Network); problem != "" {
		m.log.Error("this host has moved to where peers cannot reach it; its lease stays as it is: give the interface an address that they reach, or set --public-ip", "problem", problem)
		return
	}
	m.opt.Identity.PublicIP = ip
	m.due.check = time.Now()
}
