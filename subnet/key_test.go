package subnet

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func TestParseKey(t *testing.T) {
	for _, tt := range []struct {
		name   string
		v4, v6 string
	}{
		// The examples of Flannel's documentation, and what it writes for a dual-stack host.
		{"10.5.52.0-24", "10.5.52.0/24", ""},
		{"10.12.13.0-24&fd00:12:13::-56", "10.12.13.0/24", "fd00:12:13::/56"},
		{"10.5.0.4-30", "10.5.0.4/30", ""},
		{"128.0.0.0-1", "128.0.0.0/1", ""},
		{"10.5.52.0-24&fd00::1:0:0-96", "10.5.52.0/24", "fd00::1:0:0/96"},
		{"10.5.52.0-24&fd00::4-126", "10.5.52.0/24", "fd00::4/126"},
	} {
		want := Key{Subnet: netip.MustParsePrefix(tt.v4)}
		if tt.v6 != "" {
			want.IPv6Subnet = netip.MustParsePrefix(tt.v6)
		}
		got, err := ParseKey(tt.name)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", tt.name, got, err, want)
		}
		if got.String() != tt.name {
			t.Errorf("%s: written as %s", tt.name, got)
		}
	}
}

func TestParseKeyErrors(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"", "ADDRESS-LENGTH"},
		{"-", "ADDRESS-LENGTH"},
		{"10.5.52.0", "ADDRESS-LENGTH"},
		{"10.5.52.0-", "ADDRESS-LENGTH"},
		{"10.5.52.0/24", "ADDRESS-LENGTH"},
		{"10.5.52-24", "ADDRESS-LENGTH"},
		{"10.5.52.0-0", "length 1 to 30"},
		{"10.5.52.0-31", "length 1 to 30"},
		{"10.5.52.0-33", "length 1 to 30"},
		{"10.5.52.0--24", "ADDRESS-LENGTH"},
		{"10.5.052.0-24", "ADDRESS-LENGTH"},
		{" 10.5.52.0-24", "ADDRESS-LENGTH"},
		{"10.5.52.0-24\n", "ADDRESS-LENGTH"},
		{"x10.5.52.0-24", "ADDRESS-LENGTH"},
		{"10.5.52.0-24/x", "ADDRESS-LENGTH"},
		{"10.5.52.0-024", "want 10.5.52.0-24"},
		{"10.5.52.1-24", "host bits set, want 10.5.52.0-24"},
		{"fd00:12:13::-56", "ADDRESS-LENGTH"},
		{"::ffff:10.5.52.0-120", "ADDRESS-LENGTH"},
		{"10.5.52.0-24&", "ADDRESS-LENGTH"},
		{"10.5.52.0-24&10.6.0.0-24", "ADDRESS-LENGTH"},
		{"10.5.52.0-24&fd00::-127", "length 1 to 126"},
		{"10.5.52.0-24&fd00::%eth0-56", "ADDRESS-LENGTH"},
		{"10.5.52.0-24&fd00::1-56", "want 10.5.52.0-24&fd00::-56"},
		{"10.5.52.0-24&FD00::-56", "want 10.5.52.0-24&fd00::-56"},
		{"10.5.52.0-24&fd00:0::-56", "want 10.5.52.0-24&fd00::-56"},
		{"10.5.52.0-24&fd00::-56&fd01::-56", "ADDRESS-LENGTH"},
		{"&fd00::-56", "ADDRESS-LENGTH"},
	} {
		k, err := ParseKey(tt.name)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %+v, error %v, want one that says %q", tt.name, k, err, tt.want)
		}
		if k != (Key{}) {
			t.Errorf("%q: error with a key: %+v", tt.name, k)
		}
	}
}

func TestKeyRoundTrip(t *testing.T) {
	for range 2000 {
		k := Key{Subnet: netip.PrefixFrom(uint32Addr(rand.Uint32()), 1+rand.IntN(30)).Masked()}
		if rand.IntN(2) == 0 {
			a := [16]byte{0: 0xfd}
			for i := 1; i < 16; i++ {
				a[i] = byte(rand.IntN(3)) // runs of zeros, which the text form shortens
			}
			k.IPv6Subnet = netip.PrefixFrom(netip.AddrFrom16(a), 1+rand.IntN(126)).Masked()
		}
		if got, err := ParseKey(k.String()); err != nil || got != k {
			t.Fatalf("%s: read back as %s, %v", k, got, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("10.5.52.0-24")
	f.Add("10.12.13.0-24&fd00:12:13::-56")
	f.Add("10.5.52.1-24&::ffff:1.2.3.4-96")
	f.Fuzz(func(t *testing.T, name string) {
		k, err := ParseKey(name)
		if err != nil {
			return
		}
		if k.String() != name {
			t.Fatalf("%q is a second name of %s", name, k)
		}
		if k.Subnet != k.Subnet.Masked() || !k.Subnet.Addr().Is4() || k.IPv6Subnet != k.IPv6Subnet.Masked() {
			t.Fatalf("%q gives %+v", name, k)
		}
	})
}
