package overlay

import (
	"context"
	"strconv"

	"twill/internal/lab"
)

// openvpn is OpenVPN from peer to peer without TLS or a key: the packets go as
// they are, as with twill and Flannel.
type openvpn struct{}

// openvpnMTU leaves room for the outer IPv4 and UDP headers; without a key there
// is no other.
const openvpnMTU = underlayMTU - 28

func (openvpn) Name() string          { return "openvpn" }
func (openvpn) Kind() string          { return "userspace, without encryption" }
func (openvpn) Find() (string, error) { return findProgram("openvpn", "openvpn", "--version") }

func (openvpn) Start(ctx context.Context, l *lab.Lab) (*Network, error) {
	return tunDaemon{
		kind: "ovpn",
		mtu:  openvpnMTU,
		command: func(i int, device string) []string {
			return []string{"openvpn",
				"--dev", device, "--dev-type", "tun",
				"--proto", "udp4",
				"--local", l.Hosts[i].Addr().String(), "--remote", l.Hosts[1-i].Addr().String(),
				"--tun-mtu", strconv.Itoa(openvpnMTU), "--mssfix", "0",
				"--disable-dco"}
		},
	}.start(ctx, l)
}
