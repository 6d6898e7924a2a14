package overlay

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"twill/internal/lab"
)

// wireguard is wireguard-go, which encrypts. The program may be given by its
// path: only those since 2023 use the kernel's offloads.
type wireguard struct{ path string }

const (
	// wireguardPort is any; wireguard has no registered one.
	wireguardPort = 51820
	// wireguardMTU is what wg-quick(8) takes on Ethernet: it leaves 80 bytes
	// for IPv6, UDP and WireGuard's header and tag.
	wireguardMTU = underlayMTU - 80
	// socketDir is where wireguard-go makes its control sockets.
	socketDir = "/var/run/wireguard/"
)

func (wireguard) Name() string { return "wireguard-go" }
func (wireguard) Kind() string { return "userspace, encrypts" }

func (w wireguard) Find() (string, error) {
	return findProgram(w.program(), "wireguard-go", "--version")
}

func (w wireguard) program() string {
	if w.path != "" {
		return w.path
	}
	return "wireguard-go"
}

func (w wireguard) Start(ctx context.Context, l *lab.Lab) (*Network, error) {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return nil, err
		}
	}
	return tunDaemon{
		kind: "wg",
		mtu:  wireguardMTU,
		command: func(_ int, device string) []string {
			return []string{w.program(), "--foreground", device}
		},
		configure: func(i int, device string) error {
			peer := netip.AddrPortFrom(l.Hosts[1-i].Addr(), wireguardPort)
			return w.configure(ctx, socketDir+device+".sock", keys[i], keys[1-i].PublicKey(), peer, subnet(1-i))
		},
	}.start(ctx, l)
}

// configure speaks the cross-platform userspace protocol of
// https://www.wireguard.com/xplatform/.
func (wireguard) configure(ctx context.Context, socket string, own *ecdh.PrivateKey, peer *ecdh.PublicKey, endpoint netip.AddrPort, allowed netip.Prefix) error {
	var conn net.Conn
	err := lab.WaitFor(ctx, socket, func() (err error) {
		conn, err = net.Dial("unix", socket)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "set=1\nprivate_key=%x\nlisten_port=%d\npublic_key=%x\nendpoint=%s\nallowed_ip=%s\n\n",
		own.Bytes(), wireguardPort, peer.Bytes(), endpoint, allowed)
	if err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "errno=0" {
		return fmt.Errorf("it answers %q (%v)", answer, err)
	}
	return nil
}
