package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"twill/internal/api"
	"twill/subnet"
	"twill/tunnel"
)

const (
	// pingsPerSecond and pingBurst bound what all clients of the control socket
	// send together; a peer answers a hundred a second.
	pingsPerSecond = 50
	pingBurst      = 10
	// maxPingQueue and maxPingWait together are below the control socket's own
	// timeout.
	maxPingQueue = 500 * time.Millisecond
	maxPingWait  = 4 * time.Second
)

// httpError is an answer other than 200: the status and what it says.
type httpError struct {
	status int
	text   string
}

func (e *httpError) Error() string { return e.text }

func httpErrorf(status int, format string, args ...any) error {
	return &httpError{status: status, text: fmt.Sprintf(format, args...)}
}

// answer writes what ask returns as JSON, or its error.
func answer[T any](ask func(*http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := ask(r)
		var refused *httpError
		switch {
		case err == nil:
			writeJSON(w, v)
		case errors.As(err, &refused):
			http.Error(w, refused.text, refused.status)
		default:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
}

// ping sends the one probe of an api.PingPath.
func (d *daemon) ping(r *http.Request) (api.Ping, error) {
	q := r.URL.Query()
	size, err := strconv.Atoi(q.Get("size"))
	if err != nil || size < tunnel.MinPing || size > tunnel.MaxPing {
		return api.Ping{}, httpErrorf(http.StatusBadRequest, "size %q: want %d to %d bytes", q.Get("size"), tunnel.MinPing, tunnel.MaxPing)
	}
	wait, err := time.ParseDuration(q.Get("wait"))
	if err != nil || wait <= 0 || wait > maxPingWait {
		return api.Ping{}, httpErrorf(http.StatusBadRequest, "wait %q: want more than 0 and at most %v", q.Get("wait"), maxPingWait)
	}
	t := d.table.Load()
	i, err := t.find(q.Get("to"))
	if err != nil {
		return api.Ping{}, err
	}
	if !runsTwill(t.View.Peers[i]) {
		return api.Ping{}, httpErrorf(http.StatusUnprocessableEntity,
			"%s runs Flannel, which answers no probes; ping one of its pods from a pod instead", name(t.View.Peers[i]))
	}
	if err := d.waitForPing(r.Context()); err != nil {
		return api.Ping{}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	reply, err := d.tunnel.Ping(ctx, t.Peers[i], size)
	a := api.Ping{Schema: api.Schema, Size: size, Peer: reportPeer(t.View.Peers[i], t.Peers[i].Stats(), int(d.mtu.Load()), time.Now())}
	switch {
	case err == nil:
		rtt := reply.RTT.Seconds()
		a.RTT = &rtt
	case errors.Is(err, unix.EMSGSIZE):
		a.Error = "message too long: the underlay interface does not take it in one piece"
	case !errors.Is(err, context.DeadlineExceeded):
		a.Error = err.Error()
	}
	return a, r.Context().Err()
}

// waitForPing waits until another probe may be sent.
func (d *daemon) waitForPing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, maxPingQueue)
	defer cancel()
	if d.pings.Wait(ctx) != nil {
		return httpErrorf(http.StatusTooManyRequests, "this host sends %d probes a second for all who ask, and more are waiting", pingsPerSecond)
	}
	return nil
}

// find returns the index of the peer that to names: by node name, node id,
// subnet, or an address in the subnet.
func (t *Table) find(to string) (int, error) {
	if addr, err := netip.ParseAddr(to); err == nil {
		return t.findPrefix(to, netip.PrefixFrom(addr, addr.BitLen()))
	}
	if prefix, err := netip.ParsePrefix(to); err == nil {
		return t.findPrefix(to, prefix)
	}
	found := -1
	for i, p := range t.View.Peers {
		switch {
		case p.NodeID == to && to != "":
			return i, nil
		case p.Node != to || to == "":
		case found >= 0:
			return -1, httpErrorf(http.StatusConflict, "several nodes are called %s: name one by its subnet, as %s or %s", to, t.View.Peers[found].Subnet, p.Subnet)
		default:
			found = i
		}
	}
	if found < 0 && to != "" && (to == t.View.Own.Node || to == t.View.Own.NodeID) {
		return -1, httpErrorf(http.StatusNotFound, "%s is this host itself", to)
	}
	if found < 0 {
		return -1, httpErrorf(http.StatusNotFound, "no peer is called %q, by node name, node id, subnet or an address in it; `twill peers` lists them", to)
	}
	return found, nil
}

// findPrefix returns the index of the peer whose subnet holds prefix.
func (t *Table) findPrefix(to string, prefix netip.Prefix) (int, error) {
	for i, p := range t.View.Peers {
		if p.Subnet.Bits() <= prefix.Bits() && p.Subnet.Contains(prefix.Addr()) {
			return i, nil
		}
	}
	if own := t.View.Own.Subnet; own.IsValid() && own.Contains(prefix.Addr()) {
		return -1, httpErrorf(http.StatusNotFound, "%s lies in this host's own subnet %s", to, own)
	}
	for _, p := range t.View.Peers {
		if p.Endpoint.Addr() == prefix.Addr() {
			return -1, httpErrorf(http.StatusNotFound, "%s is the underlay address of %s: name it, or its subnet %s", to, name(p), p.Subnet)
		}
	}
	return -1, httpErrorf(http.StatusNotFound, "no peer holds %s; `twill peers` lists their subnets", to)
}

// name is what to call a peer: its node name, or else its subnet.
func name(p *subnet.Peer) string {
	if n := strings.TrimSpace(p.Node); n != "" {
		return n
	}
	return p.Subnet.String()
}
