// Package card lets a veth behave as a plain network card, one without offloads
// for tunnels, does. A veth as it is hands 64 KB at a time to the other side,
// which no network does.
package card

import (
	"fmt"

	"github.com/safchain/ethtool"
)

// segmentation is what a veth lets pass unsegmented, and a plain network card
// without tunnel offloads would have segmented by the kernel before it.
var segmentation = []string{
	"tx-tcp-segmentation",
	"tx-tcp-ecn-segmentation",
	"tx-tcp-mangleid-segmentation",
	"tx-tcp6-segmentation",
	"tx-udp-segmentation",
	"tx-udp_tnl-segmentation",
	"tx-udp_tnl-csum-segmentation",
	"tx-gre-segmentation",
	"tx-gre-csum-segmentation",
	"tx-ipxip4-segmentation",
	"tx-ipxip6-segmentation",
	"tx-sctp-segmentation",
	"tx-gso-list",
}

// receiveOffload merges on the way in what was segmented on the way out.
const receiveOffload = "rx-gro"

// Imitate changes a veth of the calling thread's namespace: it sends packets no
// longer than the MTU, and merges what it receives.
func Imitate(link string) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("ethtool socket: %w", err)
	}
	defer e.Close()
	known, err := e.Features(link)
	if err != nil {
		return fmt.Errorf("features of %s: %w", link, err)
	}
	wanted := map[string]bool{receiveOffload: true}
	for _, f := range segmentation {
		if _, found := known[f]; found { // the list grows with the kernel
			wanted[f] = false
		}
	}
	if err := e.Change(link, wanted); err != nil {
		return fmt.Errorf("change features of %s: %w", link, err)
	}
	return checkFeatures(e, link, wanted)
}

// checkFeatures reads the features back: the kernel leaves out in silence what a
// link cannot do.
func checkFeatures(e *ethtool.Ethtool, link string, wanted map[string]bool) error {
	got, err := e.Features(link)
	if err != nil {
		return fmt.Errorf("features of %s: %w", link, err)
	}
	for f, on := range wanted {
		if got[f] != on {
			return fmt.Errorf("feature %s of %s is %t, want %t", f, link, got[f], on)
		}
	}
	return nil
}
