package daemon

import (
	"context"
	"fmt"

	"twill/subnet"
)

func (d *daemon) writeSubnetFile(context.Context) error {
	return subnet.WriteEnv(d.SubnetFilePath(), d.subnetEnv())
}

func (d *daemon) subnetEnv() subnet.Env {
	return subnet.Env{
		Network: d.network.Network,
		Subnet:  subnet.SubnetEnv(d.own.Subnet),
		MTU:     int(d.mtu.Load()),
		IPMasq:  d.IPMasq,
	}
}

// keepSubnetFile writes the subnet file anew where it does not say what is true
// now: the MTU has changed, or somebody has removed it.
func (d *daemon) keepSubnetFile() error {
	want := d.subnetEnv()
	if have, err := subnet.ReadEnv(d.SubnetFilePath()); err == nil && have == want {
		return nil
	}
	if err := subnet.WriteEnv(d.SubnetFilePath(), want); err != nil {
		return fmt.Errorf("it should say subnet %s and MTU %d: %w", want.Subnet, want.MTU, err)
	}
	d.Log.Info("wrote the subnet file anew", "path", d.SubnetFilePath(), "mtu", want.MTU)
	return nil
}
