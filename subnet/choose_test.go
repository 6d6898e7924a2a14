package subnet

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// us is the host that chooses; they is another.
var (
	us   = Identity{NodeID: "id-us", Node: "us", PublicIP: netip.MustParseAddr("192.0.2.1"), Port: 8285}
	they = Identity{NodeID: "id-they", Node: "they", PublicIP: netip.MustParseAddr("192.0.2.2"), Port: 8285}
)

// leaseAt is the lease under a key, as if etcd had it with a TTL.
func leaseAt(t testing.TB, name, value string) Lease {
	t.Helper()
	l := Lease{Name: name, ID: 7, CreateRevision: 1, ModRevision: 1}
	var keyErr, valueErr error
	l.Key, keyErr = ParseKey(name)
	l.Value, valueErr = ParseValue([]byte(value))
	for _, err := range []error{keyErr, valueErr} {
		if err != nil {
			l.Err = err
		}
	}
	return l
}

func reserved(l Lease) Lease {
	l.ID = 0
	return l
}

func valueOf(id Identity) string { return string(id.value().Marshal()) }

func flannelValue(ip netip.Addr) string { return fmt.Sprintf(`{"PublicIP":%q,"PublicIPv6":null}`, ip) }

// A network of three allocatable subnets: 10.5.1.0/24 to 10.5.3.0/24.
const tinyConfig = `{"Network":"10.5.0.0/22"}`

func TestChoose(t *testing.T) {
	ours, theirs := valueOf(us), valueOf(they)
	byAddress := flannelValue(us.PublicIP)
	nodeIDOnly := us
	nodeIDOnly.PublicIP = netip.MustParseAddr("192.0.2.99")
	neighbour := us // behind the same NAT: our PublicIP, another port
	neighbour.NodeID, neighbour.Port = "", 9000

	for _, tt := range []struct {
		name     string
		leases   []Lease
		previous string
		want     []string // any of these
		held     bool
	}{
		{name: "free for all", want: []string{"10.5.1.0-24", "10.5.2.0-24", "10.5.3.0-24"}},
		{name: "own by node id goes before own by address",
			leases: []Lease{leaseAt(t, "10.5.1.0-24", byAddress), leaseAt(t, "10.5.2.0-24", ours)},
			want:   []string{"10.5.2.0-24"}, held: true},
		{name: "node id counts after a move to another address",
			leases: []Lease{leaseAt(t, "10.5.2.0-24", valueOf(nodeIDOnly))},
			want:   []string{"10.5.2.0-24"}, held: true},
		{name: "own by address", leases: []Lease{leaseAt(t, "10.5.2.0-24", byAddress)}, previous: "10.5.1.0/24",
			want: []string{"10.5.2.0-24"}, held: true},
		{name: "another node at our address is not us",
			leases: []Lease{leaseAt(t, "10.5.1.0-24", valueOf(Identity{NodeID: "id-x", PublicIP: us.PublicIP, Port: us.Port}))},
			want:   []string{"10.5.2.0-24", "10.5.3.0-24"}},
		{name: "a neighbour behind the same NAT is not us",
			leases: []Lease{reserved(leaseAt(t, "10.5.1.0-24", valueOf(neighbour)))},
			want:   []string{"10.5.2.0-24", "10.5.3.0-24"}},
		{name: "of two of ours, the previous one",
			leases: []Lease{leaseAt(t, "10.5.1.0-24", ours), leaseAt(t, "10.5.3.0-24", ours)}, previous: "10.5.3.0/24",
			want: []string{"10.5.3.0-24"}, held: true},
		{name: "own lease that does not fit any more", leases: []Lease{leaseAt(t, "10.9.1.0-24", ours)}, previous: "10.9.1.0/24",
			want: []string{"10.5.1.0-24", "10.5.2.0-24", "10.5.3.0-24"}},
		{name: "previous and free", previous: "10.5.3.0/24", want: []string{"10.5.3.0-24"}},
		{name: "previous is taken", leases: []Lease{leaseAt(t, "10.5.3.0-24", theirs)}, previous: "10.5.3.0/24",
			want: []string{"10.5.1.0-24", "10.5.2.0-24"}},
		{name: "previous of another length", previous: "10.5.3.0/25", want: []string{"10.5.1.0-24", "10.5.2.0-24", "10.5.3.0-24"}},
		{name: "the subnet that is never handed out", previous: "10.5.0.0/24", want: []string{"10.5.1.0-24", "10.5.2.0-24", "10.5.3.0-24"}},
		{name: "reservation for us by node id", leases: []Lease{reserved(leaseAt(t, "10.5.2.0-24", ours))}, want: []string{"10.5.2.0-24"}, held: true},
		{name: "reservation for us by address", leases: []Lease{reserved(leaseAt(t, "10.5.2.0-24", byAddress))}, want: []string{"10.5.2.0-24"}, held: true},
		{name: "reservation for another, also as previous", leases: []Lease{reserved(leaseAt(t, "10.5.2.0-24", theirs))}, previous: "10.5.2.0/24",
			want: []string{"10.5.1.0-24", "10.5.3.0-24"}},
		{name: "another backend's, a dual-stack and an unreadable one are taken",
			leases: []Lease{
				leaseAt(t, "10.5.1.0-24", flannelVXLAN),
				leaseAt(t, "10.5.2.0-24&fd00:5:2::-64", flannelDual),
			}, want: []string{"10.5.3.0-24"}},
		{name: "unreadable value, also with our address in it",
			leases: []Lease{leaseAt(t, "10.5.1.0-24", "{"), leaseAt(t, "10.5.2.0-24", `{"PublicIP":"192.0.2.1","BackendData":{"Proto":1,"Port":-1}}`)},
			want:   []string{"10.5.3.0-24"}},
		{name: "a longer and a shorter subnet overlap",
			leases: []Lease{leaseAt(t, "10.5.1.64-26", theirs), leaseAt(t, "10.5.2.0-23", theirs)}, previous: "10.5.1.0/24", want: nil},
		{name: "an unreadable key takes nothing", leases: []Lease{leaseAt(t, "10.5.1.0_24", theirs)}, previous: "10.5.1.0/24", want: []string{"10.5.1.0-24"}},
		{name: "full", leases: []Lease{leaseAt(t, "10.5.1.0-24", theirs), leaseAt(t, "10.5.2.0-24", theirs), reserved(leaseAt(t, "10.5.3.0-24", theirs))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var previous netip.Prefix
			if tt.previous != "" {
				previous = netip.MustParsePrefix(tt.previous)
			}
			got, err := choose(mustConfig(t, tinyConfig), tt.leases, us, previous)
			if tt.want == nil {
				if err == nil || !strings.Contains(err.Error(), "no free subnet: all 3 of 10.5.0.0/22") {
					t.Fatalf("got %v, %v; want no free subnet", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(tt.want, got.key.String()) || (got.held != nil) != tt.held {
				t.Fatalf("got %s (held %v), want one of %v (held %v)", got.key, got.held != nil, tt.want, tt.held)
			}
		})
	}
}

// Every free subnet can be the random one, so that hosts spread.
func TestChooseReachesEveryFreeSubnet(t *testing.T) {
	c := mustConfig(t, tinyConfig)
	seen := map[string]bool{}
	for range 1000 { // each of three is missed with a chance of (2/3)^1000
		got, err := choose(c, nil, us, netip.Prefix{})
		if err != nil {
			t.Fatal(err)
		}
		seen[got.key.String()] = true
	}
	if len(seen) != c.SubnetCount() {
		t.Fatalf("1000 choices gave %v, want all %d subnets", seen, c.SubnetCount())
	}
}

// slowChoose is choose without any cleverness: it goes through the wishes in
// order and compares address by address. Any of free may be chosen.
func slowChoose(c Config, leases []Lease, id Identity, previous netip.Prefix) (held string, free []netip.Prefix) {
	byID := func(l Lease) bool { return l.NodeID != "" && l.NodeID == id.NodeID }
	byIP := func(l Lease) bool {
		return l.NodeID == "" && l.PublicIP == id.PublicIP && (l.Port == 0 || l.Port == id.Port)
	}
	was := func(l Lease) bool { return l.Subnet == previous }
	any := func(Lease) bool { return true }
	for _, wish := range [][2]func(Lease) bool{{byID, was}, {byID, any}, {byIP, was}, {byIP, any}} {
		for _, l := range leases {
			if l.Err == nil && allocatable(c, l.Subnet) && wish[0](l) && wish[1](l) {
				return l.Name, nil
			}
		}
	}
	for i := range c.SubnetCount() {
		if s := c.Subnet(i); !slices.ContainsFunc(leases, func(l Lease) bool { return shareAddress(l.Subnet, s) }) {
			if s == previous {
				return "", []netip.Prefix{s}
			}
			free = append(free, s)
		}
	}
	return "", free
}

func allocatable(c Config, p netip.Prefix) bool {
	for i := range c.SubnetCount() {
		if c.Subnet(i) == p {
			return true
		}
	}
	return false
}

func shareAddress(a, b netip.Prefix) bool {
	if !a.IsValid() {
		return false
	}
	for ip := b.Masked().Addr(); b.Contains(ip); ip = ip.Next() {
		if a.Contains(ip) {
			return true
		}
	}
	return false
}

func TestChooseAgainstTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := mustConfig(t, `{"Network":"10.5.0.0/24","SubnetLen":28,"SubnetMin":"10.5.0.32","SubnetMax":"10.5.0.192"}`)
	outcomes := map[string]int{}
	for range 5000 {
		leases := randomLeases(rng, rng.IntN(28))
		var previous netip.Prefix
		if rng.IntN(2) == 0 {
			previous = randomSubnet(rng)
		}
		held, free := slowChoose(c, leases, us, previous)
		got, err := choose(c, leases, us, previous)
		switch {
		case held != "":
			outcomes["held"]++
			if err != nil || got.held == nil || got.held.Name != held {
				t.Fatalf("leases %v, previous %v: got %+v, %v; want to hold %s", leases, previous, got, err, held)
			}
		case len(free) == 0:
			outcomes["full"]++
			if err == nil {
				t.Fatalf("leases %v, previous %v: got %s; want an error", leases, previous, got.key)
			}
		default:
			outcomes["free"]++
			if err != nil || got.held != nil || !slices.Contains(free, got.key.Subnet) || got.key.IPv6Subnet.IsValid() {
				t.Fatalf("leases %v, previous %v: got %+v, %v; want one of %v", leases, previous, got, err, free)
			}
		}
	}
	for _, o := range []string{"held", "full", "free"} {
		if outcomes[o] < 50 {
			t.Errorf("random tables gave %v: %q is hardly tried", outcomes, o)
		}
	}
}

// randomSubnet lies in or around 10.5.0.0/24, most often where the config of
// TestChooseAgainstTwin allocates.
func randomSubnet(rng *rand.Rand) netip.Prefix {
	bits := []int{28, 28, 28, 28, 27, 29, 26}[rng.IntN(7)]
	addr := netip.AddrFrom4([4]byte{10, 5, byte(rng.IntN(20) / 19), byte(rng.IntN(256))})
	return netip.PrefixFrom(addr, bits).Masked()
}

// randomLeases has keys of every kind and values of us, of others and of no
// sense, each key once.
func randomLeases(rng *rand.Rand, n int) []Lease {
	byName := map[string]bool{}
	var leases []Lease
	for range n {
		l := randomLease(rng)
		if !byName[l.Name] {
			byName[l.Name] = true
			leases = append(leases, l)
		}
	}
	return leases
}

func randomLease(rng *rand.Rand) Lease {
	var l Lease
	l.Subnet = randomSubnet(rng)
	if rng.IntN(8) == 0 {
		l.IPv6Subnet = netip.MustParsePrefix("fd00:5::/64")
	}
	l.Name = l.Key.String()
	l.ID = 7
	if rng.IntN(4) == 0 {
		l.ID = 0
	}
	switch rng.IntN(12) {
	case 0:
		l.Err = fmt.Errorf("value does not parse")
		return l
	case 1:
		l.Err = fmt.Errorf("key does not parse")
		l.Name, l.Key = "x"+l.Name, Key{}
	}
	l.PublicIP = []netip.Addr{they.PublicIP, they.PublicIP, they.PublicIP, us.PublicIP}[rng.IntN(4)]
	l.NodeID = []string{"", they.NodeID, they.NodeID, they.NodeID, us.NodeID}[rng.IntN(5)]
	l.Port = []uint16{0, us.Port, 9000}[rng.IntN(3)]
	l.BackendType = []string{"", "udp", "vxlan"}[rng.IntN(3)]
	return l
}
