package subnet

import (
	"bytes"
	"fmt"
	"strings"
)

// noteConfig takes over what can change while we run from the network config
// that etcd has now, and says once what cannot.
func (m *Manager) noteConfig(raw []byte) {
	if bytes.Equal(raw, m.rawConf) {
		return
	}
	m.rawConf = bytes.Clone(raw)
	former, before := m.config, m.configProblem
	switch m.configProblem = m.adopt(raw); {
	case m.configProblem != "":
		m.log.Warn(m.configProblem)
	case before != "":
		m.log.Info("the network config in etcd is the one that this host runs with")
	}
	if m.config != former {
		m.log.Info("took over the changed network config", "config", string(m.config.JSON()))
	}
}

// adopt returns why this host is not as the config in etcd says; "": it is.
func (m *Manager) adopt(raw []byte) string {
	if len(raw) == 0 {
		return "the network config was deleted from etcd; this host goes on with the one it has, others cannot join"
	}
	c, err := ParseConfig(raw)
	if err != nil {
		return fmt.Sprintf("the network config in etcd is not valid any more; this host goes on with the one it has, others cannot join: %v", err)
	}
	var rest []string
	if c.Network == m.config.Network && c.SubnetLen == m.config.SubnetLen {
		m.config = c
		if err := c.Check(m.own.Subnet); err != nil {
			rest = append(rest, fmt.Sprintf("our own %v", err))
		}
	} else {
		// The leases of all others are of the network that we run with.
		rest = append(rest, fmt.Sprintf("Network %s with SubnetLen %d, while this host is in %s with %d",
			c.Network, c.SubnetLen, m.config.Network, m.config.SubnetLen))
		m.config.Port = c.Port
	}
	if m.portOfConfig && c.Port != m.opt.Identity.Port {
		rest = append(rest, fmt.Sprintf("Backend.Port %d, while this host listens on %d", c.Port, m.opt.Identity.Port))
	}
	if rest == nil {
		return ""
	}
	return "the network config in etcd has changed; restart twill to use it: " + strings.Join(rest, "; ")
}
