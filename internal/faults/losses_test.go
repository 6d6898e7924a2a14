package faults

import (
	"fmt"
	"strings"

	"twill/internal/api"
	"twill/internal/lab"
)

// logLosses says where packets were dropped since the world began: by a daemon, by
// an interface, or for want of room in the receive buffer of a stream or of a daemon.
func (w *world) logLosses() {
	w.t.Helper()
	for _, h := range w.hosts {
		var s api.Status
		if err := api.Get(w.ctx, socket(h), api.StatusPath, &s); err != nil {
			w.t.Logf("%s: %v", h.Name, err)
		}
		w.t.Logf("%s: the daemon dropped %v to send, %v received", h.Name, s.Tx.Drops, s.Rx.Drops)
		for _, n := range append([]*lab.Namespace{h.Namespace}, h.Pods...) {
			w.t.Logf("%s: %s", n.Name, kernelDrops(n))
		}
	}
}

// kernelDrops are n's counters of drops that are not zero.
func kernelDrops(n *lab.Namespace) string {
	var found []string
	links, err := n.Link().LinkList()
	if err != nil {
		return err.Error()
	}
	for _, l := range links {
		if s := l.Attrs().Statistics; s != nil && s.RxDropped+s.TxDropped+s.RxErrors+s.TxErrors > 0 {
			found = append(found, fmt.Sprintf("%s dropped %d received, %d to send (errors %d, %d)",
				l.Attrs().Name, s.RxDropped, s.TxDropped, s.RxErrors, s.TxErrors))
		}
	}
	udp, err := n.UDPCounters()
	if err != nil {
		return err.Error()
	}
	return strings.Join(append(found, fmt.Sprint("UDP ", udp)), "; ")
}
