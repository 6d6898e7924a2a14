package subnet

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func mustConfig(t testing.TB, raw string) Config {
	t.Helper()
	c, err := ParseConfig([]byte(raw))
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return c
}

func TestParseConfigDefaults(t *testing.T) {
	for _, tt := range []struct {
		raw      string
		network  string
		len      int
		min, max string
		port     uint16
	}{
		{`{"Network":"10.5.0.0/16"}`, "10.5.0.0/16", 24, "10.5.1.0", "10.5.255.0", 8285},
		{`{"Network":"10.0.0.0/8"}`, "10.0.0.0/8", 24, "10.0.1.0", "10.255.255.0", 8285},
		// From /23 on four /24 do not fit.
		{`{"Network":"10.5.0.0/22"}`, "10.5.0.0/22", 24, "10.5.1.0", "10.5.3.0", 8285},
		{`{"Network":"10.5.0.0/23"}`, "10.5.0.0/23", 25, "10.5.0.128", "10.5.1.128", 8285},
		{`{"Network":"10.5.0.0/24"}`, "10.5.0.0/24", 26, "10.5.0.64", "10.5.0.192", 8285},
		{`{"Network":"10.5.0.16/28"}`, "10.5.0.16/28", 30, "10.5.0.20", "10.5.0.28", 8285},
		{`{"Network":"10.5.0.0/16","SubnetLen":28}`, "10.5.0.0/16", 28, "10.5.0.16", "10.5.255.240", 8285},
		{`{"Network":"10.5.0.0/16","SubnetLen":30}`, "10.5.0.0/16", 30, "10.5.0.4", "10.5.255.252", 8285},
		{`{"Network":"10.5.0.0/16","SubnetLen":18}`, "10.5.0.0/16", 18, "10.5.64.0", "10.5.192.0", 8285},
		{`{"Network":"10.5.0.0/16","SubnetLen":0}`, "10.5.0.0/16", 24, "10.5.1.0", "10.5.255.0", 8285},
		{`{"Network":"10.5.7.9/16"}`, "10.5.0.0/16", 24, "10.5.1.0", "10.5.255.0", 8285},
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.5.10.0","SubnetMax":"10.5.20.0"}`, "10.5.0.0/16", 24, "10.5.10.0", "10.5.20.0", 8285},
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.5.10.0","SubnetMax":"10.5.10.0"}`, "10.5.0.0/16", 24, "10.5.10.0", "10.5.10.0", 8285},
		// The first subnet is skipped by default only.
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.5.0.0"}`, "10.5.0.0/16", 24, "10.5.0.0", "10.5.255.0", 8285},
		{`{"Network":"10.5.0.0/16","SubnetMin":"0.0.0.0","SubnetMax":"0.0.0.0"}`, "10.5.0.0/16", 24, "10.5.1.0", "10.5.255.0", 8285},
		{`{"network":"10.5.0.0/16","SUBNETLEN":26,"backend":{"TYPE":"UDP","port":7890}}`, "10.5.0.0/16", 26, "10.5.0.64", "10.5.255.192", 7890},
		{`{"Network":"10.5.0.0/16","Backend":{}}`, "10.5.0.0/16", 24, "10.5.1.0", "10.5.255.0", 8285},
		{`{"Network":"10.5.0.0/16","Backend":null,"SubnetLen":null,"EnableIPv4":null}`, "10.5.0.0/16", 24, "10.5.1.0", "10.5.255.0", 8285},
		{`{"Network":"10.5.0.0/16","EnableIPv4":true,"EnableNFTables":true,"New":[{}],"Backend":{"Type":"udp","VNI":1}}`, "10.5.0.0/16", 24, "10.5.1.0", "10.5.255.0", 8285},
		{" \n{\"Network\":\"10.5.0.0/16\"}\n ", "10.5.0.0/16", 24, "10.5.1.0", "10.5.255.0", 8285},
	} {
		t.Run(tt.raw, func(t *testing.T) {
			want := Config{
				Network:   netip.MustParsePrefix(tt.network),
				SubnetLen: tt.len,
				SubnetMin: netip.MustParseAddr(tt.min),
				SubnetMax: netip.MustParseAddr(tt.max),
				Backend:   "udp",
				Port:      tt.port,
			}
			if got := mustConfig(t, tt.raw); got != want {
				t.Errorf("got %s, want %s", got.JSON(), want.JSON())
			}
		})
	}
}

func TestParseConfigDualStack(t *testing.T) {
	for _, tt := range []struct {
		v6       string
		network  string
		len      int
		min, max string
	}{
		{`"IPv6Network":"fd00:5::/48"`, "fd00:5::/48", 64, "fd00:5:0:1::", "fd00:5:0:ffff::"},
		{`"IPv6Network":"fd00:5::/62"`, "fd00:5::/62", 64, "fd00:5:0:1::", "fd00:5:0:3::"},
		{`"IPv6Network":"fd00:5::/63"`, "fd00:5::/63", 65, "fd00:5:0:0:8000::", "fd00:5:0:1:8000::"},
		{`"IPv6Network":"fd00:5::/124"`, "fd00:5::/124", 126, "fd00:5::4", "fd00:5::c"},
		{`"IPv6Network":"fd00:5::/48","IPv6SubnetLen":56,"IPv6SubnetMin":"fd00:5:0:200::","IPv6SubnetMax":"fd00:5:0:300::"`,
			"fd00:5::/48", 56, "fd00:5:0:200::", "fd00:5:0:300::"},
	} {
		t.Run(tt.v6, func(t *testing.T) {
			c := mustConfig(t, `{"Network":"10.5.0.0/16","EnableIPv6":true,`+tt.v6+`}`)
			want := mustConfig(t, `{"Network":"10.5.0.0/16"}`)
			want.IPv6Network = netip.MustParsePrefix(tt.network)
			want.IPv6SubnetLen = tt.len
			want.IPv6SubnetMin = netip.MustParseAddr(tt.min)
			want.IPv6SubnetMax = netip.MustParseAddr(tt.max)
			if c != want {
				t.Errorf("got %s, want %s", c.JSON(), want.JSON())
			}
			if !c.IPv6Ignored() {
				t.Error("IPv6Ignored is false for a dual-stack network")
			}
		})
	}
	// Without EnableIPv6 Flannel does not look at the other fields.
	c := mustConfig(t, `{"Network":"10.5.0.0/16","IPv6Network":"junk","IPv6SubnetLen":500}`)
	if c.IPv6Ignored() || c != mustConfig(t, `{"Network":"10.5.0.0/16"}`) {
		t.Errorf("IPv6 fields count without EnableIPv6: %s", c.JSON())
	}
}

func TestParseConfigErrors(t *testing.T) {
	const v6 = `"Network":"10.5.0.0/16","EnableIPv6":true,`
	for _, tt := range []struct {
		raw  string
		want []string // each in the error: field, value, what is allowed
	}{
		{``, []string{"invalid JSON"}},
		{`{`, []string{"invalid JSON"}},
		{`{"Network":"10.5.0.0/16"} x`, []string{"invalid JSON at byte 27"}},
		{`{"Network":"10.5.0.0/16"}{}`, []string{"invalid JSON at byte 26"}},
		{`[]`, []string{"document", "array", "an object"}},
		{`{}`, []string{"Network", "required", "10.5.0.0/16"}},
		{`null`, []string{"Network", "required"}},
		{`{"Network":7}`, []string{"Network", "number", "a string"}},
		{`{"Network":"10.5.0.0"}`, []string{`Network "10.5.0.0"`, "prefix"}},
		{`{"Network":"10.5.0.0/33"}`, []string{`Network "10.5.0.0/33"`}},
		{`{"Network":"fd00::/48"}`, []string{`Network "fd00::/48"`, "10.5.0.0/16"}},
		{`{"Network":"10.5.0.0/29"}`, []string{"Network 10.5.0.0/29", "/28 or larger"}},
		{`{"Network":"0.0.0.0/0"}`, []string{"Network 0.0.0.0/0", "unicast"}},
		{`{"Network":"127.5.0.0/16"}`, []string{"Network", "127.0.0.0/8"}},
		{`{"Network":"239.5.0.0/16"}`, []string{"Network", "224.0.0.0/4"}},
		{`{"Network":"10.5.0.0/16","SubnetLen":"24"}`, []string{"SubnetLen", "string", "a whole number"}},
		{`{"Network":"10.5.0.0/16","SubnetLen":24.5}`, []string{"SubnetLen", "24.5", "a whole number"}},
		{`{"Network":"10.5.0.0/16","SubnetLen":-1}`, []string{"SubnetLen -1", "18 to 30"}},
		{`{"Network":"10.5.0.0/16","SubnetLen":17}`, []string{"SubnetLen 17", "18 to 30", "four subnets"}},
		{`{"Network":"10.5.0.0/16","SubnetLen":31}`, []string{"SubnetLen 31", "18 to 30"}},
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.5.1"}`, []string{`SubnetMin "10.5.1"`, "10.5.0.0/16"}},
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.4.1.0"}`, []string{"SubnetMin 10.4.1.0", "10.5.0.0/16"}},
		{`{"Network":"10.5.0.0/16","SubnetMin":"fd00::"}`, []string{`SubnetMin "fd00::"`}},
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.1"}`, []string{"SubnetMin 10.5.1.1", "/24 boundary", "10.5.1.0"}},
		{`{"Network":"10.5.0.0/16","SubnetMax":"10.6.0.0"}`, []string{"SubnetMax 10.6.0.0", "10.5.0.0/16"}},
		{`{"Network":"10.5.0.0/16","SubnetMax":"10.5.255.255"}`, []string{"SubnetMax 10.5.255.255", "10.5.255.0"}},
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.8.0"}`, []string{"SubnetMin 10.5.9.0", "SubnetMax 10.5.8.0"}},
		{`{"Network":"10.5.0.0/16","EnableIPv4":false}`, []string{"EnableIPv4 false", "IPv4"}},
		{`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}`, []string{"EnableIPv4 false"}},
		{`{"Network":"10.5.0.0/16","EnableIPv4":1}`, []string{"EnableIPv4", "number", "true or false"}},
		{`{"Network":"10.5.0.0/16","Backend":"udp"}`, []string{"Backend", "string", "an object"}},
		{`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`, []string{`Backend.Type "vxlan"`, `"udp" only`}},
		{`{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":0}}`, []string{"Backend.Port 0", "1 to 65535"}},
		{`{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":65536}}`, []string{"Backend.Port 65536", "1 to 65535"}},
		{`{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":"8285"}}`, []string{"Backend.Port", "string", "a whole number"}},
		{`{` + v6 + `"IPv6Network":""}`, []string{"IPv6Network", "required"}},
		{`{` + v6 + `"IPv6Network":"10.6.0.0/16"}`, []string{`IPv6Network "10.6.0.0/16"`, "fd00:5::/48"}},
		{`{` + v6 + `"IPv6Network":"fd00::/125"}`, []string{"IPv6Network fd00::/125", "/124 or larger"}},
		{`{` + v6 + `"IPv6Network":"fd00::/48","IPv6SubnetLen":127}`, []string{"IPv6SubnetLen 127", "50 to 126"}},
		{`{` + v6 + `"IPv6Network":"fd00::/48","IPv6SubnetMin":"fd00::1"}`, []string{"IPv6SubnetMin fd00::1", "/64 boundary"}},
		{`{` + v6 + `"IPv6Network":"fd00::/48","IPv6SubnetMin":"fd00::%eth0"}`, []string{`IPv6SubnetMin "fd00::%eth0"`}},
		{`{` + v6 + `"IPv6Network":"fd00::/48","IPv6SubnetMax":"fd01::"}`, []string{"IPv6SubnetMax fd01::", "fd00::/48"}},
		{`{` + v6 + `"IPv6Network":"fd00::/48","IPv6SubnetMin":"fd00:0:0:2::","IPv6SubnetMax":"fd00:0:0:1::"}`, []string{"IPv6SubnetMin fd00:0:0:2::", "IPv6SubnetMax"}},
		// Everything that is wrong, at once.
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.1","SubnetMax":"10.9.0.0","Backend":{"Type":"vxlan"}}`,
			[]string{"SubnetMin 10.5.1.1", "SubnetMax 10.9.0.0", `Backend.Type "vxlan"`}},
	} {
		t.Run(tt.raw, func(t *testing.T) {
			c, err := ParseConfig([]byte(tt.raw))
			if err == nil {
				t.Fatalf("accepted as %s", c.JSON())
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if c != (Config{}) {
				t.Errorf("error with a config: %+v", c)
			}
		})
	}
}

func TestDefaultConfig(t *testing.T) {
	c, err := DefaultConfig(netip.MustParsePrefix("10.5.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	if want := mustConfig(t, `{"Network":"10.5.0.0/16"}`); c != want {
		t.Errorf("got %s, want %s", c.JSON(), want.JSON())
	}
	for _, bad := range []netip.Prefix{{}, netip.MustParsePrefix("10.5.0.0/30"), netip.MustParsePrefix("fd00::/48")} {
		if c, err := DefaultConfig(bad); err == nil {
			t.Errorf("%s accepted as %s", bad, c.JSON())
		}
	}
}

func TestConfigJSON(t *testing.T) {
	c := mustConfig(t, `{"Network":"10.5.0.0/16"}`)
	const want = `{"Network":"10.5.0.0/16","SubnetLen":24,"SubnetMin":"10.5.1.0","SubnetMax":"10.5.255.0","Backend":{"Type":"udp","Port":8285}}`
	if got := string(c.JSON()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	doc := struct{ Config Config }{mustConfig(t, `{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48"}`)}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	back := doc
	back.Config = Config{}
	if err := json.Unmarshal(raw, &back); err != nil || back != doc {
		t.Errorf("%s reads back as %+v, %v", raw, back, err)
	}
	if err := json.Unmarshal([]byte(`{"Config":{"Network":"10.5.0.0/30"}}`), &back); err == nil {
		t.Error("a bad config inside another document was accepted")
	}
}

// listSubnets is the obvious twin of SubnetCount, Subnet and Check: it steps through the Network
// one subnet after the other.
func listSubnets(c Config) []netip.Prefix {
	var subnets []netip.Prefix
	for addr := c.Network.Addr(); c.Network.Contains(addr); {
		if addr.Compare(c.SubnetMin) >= 0 && addr.Compare(c.SubnetMax) <= 0 {
			subnets = append(subnets, netip.PrefixFrom(addr, c.SubnetLen))
		}
		for range 1 << (32 - c.SubnetLen) {
			addr = addr.Next()
		}
	}
	return subnets
}

func TestSubnetEnumeration(t *testing.T) {
	configs := []string{
		`{"Network":"10.5.0.0/16"}`,
		`{"Network":"10.5.0.16/28"}`,
		`{"Network":"255.255.240.0/21"}`,
		`{"Network":"10.5.0.0/16","SubnetMin":"10.5.0.0"}`,
		`{"Network":"10.5.0.0/16","SubnetMin":"10.5.7.0","SubnetMax":"10.5.7.0"}`,
	}
	for range 50 {
		bits := 18 + rand.IntN(11)
		network := netip.PrefixFrom(uint32Addr(10<<24|rand.Uint32N(1<<24)), bits).Masked()
		subnetLen := bits + 2 + rand.IntN(30-bits-1)
		size := uint32(1) << (32 - subnetLen)
		at := []uint32{rand.Uint32N(1 << (subnetLen - bits)), rand.Uint32N(1 << (subnetLen - bits))}
		base := addrUint32(network.Addr())
		configs = append(configs, fmt.Sprintf(`{"Network":"%s","SubnetLen":%d,"SubnetMin":"%s","SubnetMax":"%s"}`,
			network, subnetLen, uint32Addr(base+min(at[0], at[1])*size), uint32Addr(base+max(at[0], at[1])*size)))
	}
	for _, raw := range configs {
		c := mustConfig(t, raw)
		want := listSubnets(c)
		if got := c.SubnetCount(); got != len(want) {
			t.Fatalf("%s: SubnetCount %d, want %d", raw, got, len(want))
		}
		for i, subnet := range want {
			if got := c.Subnet(i); got != subnet {
				t.Fatalf("%s: Subnet(%d) = %s, want %s", raw, i, got, subnet)
			}
			if err := c.Check(subnet); err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
		}
		for _, i := range []int{-1, len(want), len(want) + 1<<24} {
			if got := c.Subnet(i); got.IsValid() {
				t.Fatalf("%s: Subnet(%d) = %s, want none", raw, i, got)
			}
		}
	}
}

func TestConfigCheck(t *testing.T) {
	c := mustConfig(t, `{"Network":"10.5.0.0/16","SubnetMin":"10.5.10.0","SubnetMax":"10.5.20.0"}`)
	for _, ok := range []string{"10.5.10.0/24", "10.5.15.0/24", "10.5.20.0/24"} {
		if err := c.Check(netip.MustParsePrefix(ok)); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		subnet netip.Prefix
		want   string
	}{
		{netip.Prefix{}, "IPv4"},
		{netip.MustParsePrefix("fd00::/24"), "IPv4"},
		{netip.MustParsePrefix("::ffff:10.5.15.0/24"), "IPv4"},
		{netip.MustParsePrefix("10.5.15.0/25"), "want SubnetLen /24"},
		{netip.MustParsePrefix("10.5.15.0/23"), "want SubnetLen /24"},
		{netip.MustParsePrefix("10.5.15.1/24"), "boundary, want 10.5.15.0/24"},
		{netip.MustParsePrefix("10.6.15.0/24"), "outside Network 10.5.0.0/16"},
		{netip.MustParsePrefix("10.5.9.0/24"), "SubnetMin 10.5.10.0"},
		{netip.MustParsePrefix("10.5.21.0/24"), "SubnetMax 10.5.20.0"},
	} {
		err := c.Check(tt.subnet)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one that says %q", tt.subnet, err, tt.want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"Network":"10.5.0.0/16"}`))
	f.Add([]byte(`{"network":"128.0.0.0/2","SubnetLen":4,"SubnetMin":"144.0.0.0","Backend":{"Type":"udp","Port":7890}}`))
	f.Add([]byte(`{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48","IPv6SubnetLen":56}`))
	f.Add([]byte(`{"Network":"10.5.0.0/28","SubnetLen":1e9,"EnableIPv4":false}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConfig(raw)
		if err != nil {
			return
		}
		if back, err := ParseConfig(c.JSON()); err != nil || back != c {
			t.Fatalf("%s: canonical form %s reads back as %+v, %v", raw, c.JSON(), back, err)
		}
		for _, i := range []int{0, c.SubnetCount() / 2, c.SubnetCount() - 1} {
			if err := c.Check(c.Subnet(i)); err != nil {
				t.Fatalf("%s: subnet %d of %d: %v", raw, i, c.SubnetCount(), err)
			}
		}
		if first, last := c.Subnet(0).Addr(), c.Subnet(c.SubnetCount()-1).Addr(); first != c.SubnetMin || last != c.SubnetMax {
			t.Fatalf("%s: enumerates %s to %s, want %s to %s", raw, first, last, c.SubnetMin, c.SubnetMax)
		}
	})
}
