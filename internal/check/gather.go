package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"twill/internal/api"
	"twill/internal/dockeropts"
	"twill/internal/netfilter"
	"twill/routes"
	"twill/subnet"
)

const (
	// etcdTimeout bounds the wait for etcd in all.
	etcdTimeout = 10 * time.Second
	// commandTimeout bounds iptables, nft and systemctl, which wait for locks.
	commandTimeout = 10 * time.Second

	dockerSettingsFile = "/etc/docker/daemon.json"
)

// Gather looks at the host, at etcd and at the daemon behind socket. It changes
// nothing. lastEnd is the file in which a daemon leaves why it ended.
func Gather(ctx context.Context, s Settings, socket, lastEnd string) *Facts {
	f := &Facts{Settings: s}
	f.gatherDaemon(ctx, socket, lastEnd)
	f.gatherHost()
	f.gatherEtcd(ctx)
	f.gatherFirewall(ctx)
	f.gatherSystemd(ctx)
	f.PortUsers = portUsers(f.port(), f.address())
	return f
}

func (f *Facts) gatherDaemon(ctx context.Context, socket, lastEnd string) {
	if f.DaemonErr = api.Get(ctx, socket, api.StatusPath, &f.Status); f.DaemonErr != nil {
		if raw, err := os.ReadFile(lastEnd); err == nil {
			f.LastEnd = strings.TrimSpace(string(raw))
		}
		return
	}
	var peers api.Peers
	if f.DaemonErr = api.Get(ctx, socket, api.PeersPath, &peers); f.DaemonErr == nil {
		f.Peers = peers.Peers
	}
}

func (f *Facts) gatherHost() {
	f.TUNErr = routes.CheckTUN()
	f.CapabilityErr = routes.CheckCapability()
	f.Forwarding, f.ForwardingErr = routes.ForwardingEnabled()
	f.Links, f.LinksErr = links()
	f.Chosen, f.UnderlayErr = routes.FindUnderlay(f.Underlay)
	f.Env, f.EnvErr = subnet.ReadEnv(f.SubnetFile)
	f.DaemonJSONErr = dockeropts.CheckDaemonJSON(dockerSettingsFile, dockeropts.Options{})
	f.gatherStrays()
}

// mostStrays bounds the route look-ups.
const mostStrays = 1000

func (f *Facts) gatherStrays() {
	for _, p := range f.Peers[:min(len(f.Peers), mostStrays)] {
		found, err := netlink.RouteGet(p.Endpoint.Addr().AsSlice())
		if err != nil || len(found) == 0 || found[0].LinkIndex == f.Chosen.Index {
			continue
		}
		if link, err := netlink.LinkByIndex(found[0].LinkIndex); err == nil {
			if f.Strays == nil {
				f.Strays = map[netip.Prefix]string{}
			}
			f.Strays[p.Subnet] = link.Attrs().Name
		}
	}
}

// links reads the interfaces with their addresses and filters.
func links() ([]Link, error) {
	list, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	all := reverseFilter("all")
	var links []Link
	at := map[int]int{} // index of links by interface index
	for _, l := range list {
		attrs := l.Attrs()
		link := Link{Name: attrs.Name, Kind: l.Type(), MTU: attrs.MTU, Up: attrs.OperState != netlink.OperDown,
			RPFilter: max(all, reverseFilter(attrs.Name))}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list addresses of %s: %w", attrs.Name, err)
		}
		for _, a := range addrs {
			if p, ok := prefixOf(a); ok {
				link.Addrs = append(link.Addrs, p)
			}
		}
		at[attrs.Index] = len(links)
		links = append(links, link)
	}
	for _, l := range list {
		if i, ok := at[l.Attrs().MasterIndex]; ok && l.Attrs().MasterIndex != 0 {
			links[i].Ports = append(links[i].Ports, Port{Name: l.Attrs().Name, MTU: l.Attrs().MTU})
		}
	}
	return links, nil
}

func reverseFilter(name string) int {
	raw, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv4/conf", name, "rp_filter"))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return n
}

// gatherEtcd asks etcd what the daemon asks it.
func (f *Facts) gatherEtcd(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	id, err := subnet.ReadNodeID(f.StateDir)
	if err == nil {
		f.NodeID = id
	}
	registry, err := subnet.Dial(ctx, f.Settings.Etcd, slog.New(slog.DiscardHandler))
	if err != nil {
		f.EtcdErr = err
		return
	}
	defer registry.Close()
	f.readEtcd(ctx, registry)
}

func (f *Facts) readEtcd(ctx context.Context, registry *subnet.Registry) {
	f.Etcd = registry.Endpoints(ctx)
	noAnswer := fmt.Errorf("etcd at %s gives no answer", strings.Join(f.Settings.Etcd.Endpoints, ","))
	if !slices.ContainsFunc(f.Etcd, func(e subnet.EndpointState) bool { return e.Err == nil }) {
		f.EtcdErr = noAnswer
		return
	}
	begin := time.Now()
	if f.Snapshot, f.EtcdErr = registry.Snapshot(ctx); f.EtcdErr != nil {
		if errors.Is(f.EtcdErr, context.DeadlineExceeded) {
			f.EtcdErr = noAnswer
		}
		return
	}
	f.RoundTrip = time.Since(begin)
	if f.Network, f.EtcdErr = f.Snapshot.ParseConfig(); f.EtcdErr != nil {
		return
	}
	f.OverlapErr = routes.Overlaps(f.Network.Network, f.TunName, f.Env.Subnet.Masked())
	if l, ok := f.held(f.Status.Subnet); ok && !l.Reserved() {
		f.OwnTTL, _ = registry.TimeToLive(ctx, l)
	}
}

func (f *Facts) gatherFirewall(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	f.Filters, f.FiltersErr = netfilter.Filters(ctx)
	if droppers, err := netfilter.FindDroppers(ctx); err == nil {
		f.Droppers = droppers
	}
}

// port is the UDP port of the daemon, 0: not known.
func (f *Facts) port() uint16 {
	port := cmp.Or(f.Settings.Port, f.Network.Port)
	if port == 0 && f.PublicPort == 0 {
		port = f.Status.Port
	}
	return port
}

// address is that which the daemon is bound to.
func (f *Facts) address() netip.Addr { return f.Chosen.Addr }
