package daemon

import (
	"fmt"
	"net/netip"

	"twill/routes"
)

// dockerBridge is the one that Docker makes itself, unless it is told otherwise.
const dockerBridge = "docker0"

// lookAtBridges finds containers that others cannot reach because their bridge
// is not in this host's subnet.
func (d *daemon) lookAtBridges() {
	bridges, err := routes.Bridges()
	if err != nil {
		d.Log.Debug("the container bridge is not known", "err", err)
		return
	}
	d.troubles.bridge.note(misplaced(bridges, d.network.Network, d.own.Subnet))
}

// misplaced returns an error about a bridge that is in another host's part of
// network, or about Docker's where it is elsewhere and no bridge is in own.
func misplaced(bridges []routes.Bridge, network, own netip.Prefix) error {
	var docker error
	placed := false
	for _, b := range bridges {
		at := b.Address.Masked()
		switch inside := network.Contains(at.Addr()); {
		case inside && own.Bits() <= at.Bits() && own.Contains(at.Addr()):
			placed = true
		case inside:
			return fmt.Errorf("bridge %s is on %s, but this host's subnet is %s", b.Name, at, own)
		case b.Name == dockerBridge:
			docker = fmt.Errorf("bridge %s is on %s, outside of this host's subnet %s", b.Name, at, own)
		}
	}
	if placed {
		return nil
	}
	return docker
}
