package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"

	"twill/internal/lab"
)

// flannel is a flanneld given by its path, with the udp backend.
type flannel struct{ path string }

// flannelConfig is its network config in etcd.
const flannelConfig = `{"Network":"` + network + `","Backend":{"Type":"udp"}}`

func (flannel) Name() string { return "flannel" }
func (flannel) Kind() string { return "userspace, udp backend" }

func (f flannel) Find() (string, error) {
	if f.path == "" {
		return "", errors.New("no program given (--flanneld PATH)")
	}
	return findProgram(f.path, "", "--version")
}

func (f flannel) Start(ctx context.Context, l *lab.Lab) (*Network, error) {
	if err := l.StartEtcd(ctx); err != nil {
		return nil, err
	}
	if _, err := l.Hosts[0].Twill(ctx, "config", "set", "--etcd-endpoints", l.EtcdEndpoint(), flannelConfig); err != nil {
		return nil, err
	}
	n := &Network{}
	for _, h := range l.Hosts {
		d, err := h.StartProgram(f.path,
			"--etcd-endpoints="+l.EtcdEndpoint(),
			"--iface=eth0",
			"--subnet-file="+h.EnvFile(),
			"--ip-masq=false",
			"--iptables-forward-rules=false")
		if err != nil {
			return nil, err
		}
		n.Daemons = append(n.Daemons, d)
	}
	for i, h := range l.Hosts {
		if err := awaitFile(ctx, n.Daemons[i], h.EnvFile()); err != nil {
			return nil, err
		}
	}
	return n, attachPods(l, n)
}

// awaitFile waits for the file by which a daemon shows that it is ready.
func awaitFile(ctx context.Context, d *lab.Process, path string) error {
	return lab.WaitFor(ctx, path, func() error {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%s: %w; it said:\n%s", d, err, d.Tail(5))
		}
		return nil
	})
}
